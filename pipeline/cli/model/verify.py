"""``lineside model verify``: the same verdicts on every runtime that the line may use?"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from pipeline.camera_config import resolved
from pipeline.cli.console import console_for
from pipeline.cli.output import JsonOption, check_json_target, fail, spare_inputs, write_json
from pipeline.config import load_line
from pipeline.config_sections import RuntimeConfig
from pipeline.line_inspector import open_line_session
from pipeline.model_probe import probe_model
from pipeline.verification.file import VerifiedRuntime, file_of, write_verification
from pipeline.verification.measure import Judging, Samples, compared, samples_for_card, samples_for_line
from vision.batch_rows import batch_rows as batch_rows_of
from vision.faults import Fault, FaultsError
from vision.package import ModelPackage, load_package
from vision.providers import AUTO, PROVIDERS, present_providers
from vision.runtime import InferenceError, Provider, RuntimeProviderError


def verify(
    model: Annotated[Path, typer.Argument(metavar="DIR", help="The model package.")],
    images: Annotated[Path, typer.Option(metavar="DIR", help="Sample images, also in folders of it.")],
    config: Annotated[
        Path | None,
        typer.Option(metavar="LINE.yaml", help="A line: its recipe, batch, threads and provider; its cameras' frames."),
    ] = None,
    batch_rows: Annotated[
        list[int] | None, typer.Option(min=1, max=4096, help="Rows of a batch; may be given several times.")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, max=64, help="runtime.intra_op_threads of the line.")] = None,
    provider: Annotated[
        list[str] | None, typer.Option(help="Only these, and a failure where one does not run here; else all present.")
    ] = None,
    json_file: JsonOption = None,
) -> None:
    """Compare a package on every provider present with the reference: the CPU provider, one row at a time.

    The result is written beside the card as verification.json; `lineside check` and `run` refuse a runtime that is not in it.
    """
    check_json_target(json_file)
    spare_inputs({"--json": json_file}, model, images, config)
    console = console_for(json_file, width=110)
    asked = _providers(provider)
    package = load_package(model)
    # Beside the model, where that is a lone file.
    spare_inputs({"--json": json_file}, package.card_path, file_of(package))
    # First elsewhere: a model that never ends would hold this command up for ever, deaf to Ctrl-C.
    probe_model(model)
    runtime, rows = RuntimeConfig(), set(batch_rows or ())
    if config is None:
        samples = samples_for_card(package, images)
        rows = rows or {len(package.card.input.views) or 1}
    else:
        line = load_line(config)
        spare_inputs({"--json": json_file}, line.recipe_file)
        if resolved(line.recipe.model) != resolved(model):
            got = f"{line.recipe.model}, the model of {line.recipe_file.name}"
            raise FaultsError([Fault(str(line.recipe_file), "model", got, f"{resolved(model)}, the package to verify")])
        samples = samples_for_line(package, line.config, line.recipe, line.recipe_file, images)
        runtime = line.config.runtime
        rows.add(batch_rows_of(line.recipe, package.card.input))
        if runtime.provider != "auto" and not asked:
            asked.append(runtime.provider)
    if threads is not None:
        runtime = runtime.model_copy(update={"intra_op_threads": threads})
    present = present_providers()
    wanted = asked if provider else [*asked, *(name for name in AUTO if name in present and name not in asked)]
    try:
        verified, not_run, broken = _measure(package, samples, runtime, wanted, sorted(rows), console)
    except InferenceError as error:
        raise fail(f"model {package.folder}: {error}") from None
    if verified or broken:
        try:
            file = write_verification(package, verified, failed=[each for each in broken.values() if each])
        except OSError as error:
            raise fail(f"{package.folder}: the result cannot be written: {error.strerror}") from None
    if verified:
        console.print(_table(verified))
        if undecided := verified[0].undecided:
            console.print(f"{undecided} of {verified[0].view_count} views could not be judged by the reference either")
        console.print(f"written to {file}", soft_wrap=True)
    for name, reason in not_run.items():
        console.print(f"not run: {name}: {reason}", soft_wrap=True)
    write_json(
        json_file,
        {
            "model_sha256": package.sha256,
            "image_count": samples.image_count,
            "images_sha256": samples.images_sha256,
            "runtimes": [{**each.model_dump(mode="json"), "passed": each.has_passed} for each in verified],
            "not_run": dict(not_run),
        },
    )
    failed = [f"{each.provider}, {each.batch_rows} rows: {each.outcome}" for each in verified if not each.has_passed]
    failed += [f"{name} does not run here" for name in asked if name in not_run]
    failed += [f"{name}: {not_run[name]}" for name in broken]
    if failed:
        raise fail(f"model {package.folder}: not verified: {'; '.join(failed)}")


def _providers(names: list[str] | None) -> list[Provider]:
    found: list[Provider] = []
    for name in names or ():
        matching = [each for each in PROVIDERS if each == name]
        if not matching:
            raise fail(f"--provider: got {name}, expected one of {', '.join(PROVIDERS)}", 2)
        found += matching
    return found


def _measure(
    package: ModelPackage,
    samples: Samples,
    runtime: RuntimeConfig,
    providers: list[Provider],
    rows: list[int],
    console: Console,
) -> tuple[list[VerifiedRuntime], dict[str, str], dict[str, str | None]]:
    """What was measured on each provider and batch; why a provider or batch does not run here; and of those on which the model
    broke off the fingerprint, None where it did not even open.
    """
    verified: list[VerifiedRuntime] = []
    not_run: dict[str, str] = {}
    broken: dict[str, str | None] = {}
    with Progress(console=Console(stderr=True), transient=True) as progress:

        def bar(what: str) -> Callable[[], None]:
            task = progress.add_task(what, total=len(samples.looks))
            return lambda: progress.advance(task)

        reference = runtime.model_copy(update={"provider": "cpu"})
        session = open_line_session(package, reference, 1)
        advance = bar("reference: cpu, 1 row")
        expected = []
        for inspection in Judging(package, session, samples).inspections():
            expected.append(inspection)
            advance()
        for name in providers:
            for count in rows:
                asked = runtime.model_copy(update={"provider": name, "allow_fallback": False})
                what, fingerprint = f"{name}, {count} rows", None
                try:
                    session = open_line_session(package, asked, count, tell=progress.console.print)
                    fingerprint = session.fingerprint_sha256
                    verified.append(compared(package, session, samples, expected, looked=bar(what)))
                except RuntimeProviderError as error:
                    not_run[name] = str(error)
                    break
                except InferenceError as error:
                    # No verdict on the others, nor on what was measured on them.
                    not_run[what], broken[what] = str(error), fingerprint
    return verified, not_run, broken


def _table(verified: list[VerifiedRuntime]) -> Table:
    table = Table(title=f"Against the reference, on {verified[0].image_count} images")
    for column in ("provider", "rows", "threads", "nodes", "score diff.", "flips", "limit", "verified"):
        table.add_column(column)
    for each in verified:
        table.add_row(
            each.provider,
            str(each.batch_rows),
            str(each.fingerprint["intra_op_threads"]),
            ", ".join(f"{count} {name.removesuffix('ExecutionProvider')}" for name, count in each.nodes.items()) or "-",
            f"{each.score_difference:.6f}",
            str(each.flips),
            str(each.flips_max),
            "yes" if each.has_passed else "NO",
        )
    return table

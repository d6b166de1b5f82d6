"""``lineside model verify``, what it leaves beside the card, and what ``check`` makes of it."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from pipeline.cli.main import app
from pipeline.config_sections import RuntimeConfig
from pipeline.line_inspector import open_line_session
from pipeline.verification import file
from pipeline.verification.file import FILE_NAME, VerifiedRuntime, read_verification, why_unverified, write_verification
from pipeline.verification.measure import Judging, compared, samples_for_card
from tests.models import write_nan_package, write_stub_package
from tests.seeing_models import write_views_package
from tests.service import write_images, write_line
from vision.faults import FaultsError
from vision.package import ModelPackage, PackageUnreadable, load_package
from vision.runtime import InferenceError, Session
from vision.types import Inspection, Reason, Verdict

GREYS = [0, 40, 120, 127, 128, 130, 200, 255, 90]


@dataclass(frozen=True)
class Done:
    returncode: int
    stdout: str
    stderr: str


def run(*arguments: str | Path) -> Done:
    """A command in this process."""
    result = CliRunner().invoke(app, [str(each) for each in arguments])
    faults = f"{result.exception}\n" if isinstance(result.exception, FaultsError) else ""
    if result.exception is not None and not isinstance(result.exception, SystemExit | FaultsError):
        raise result.exception
    return Done(2 if faults else result.exit_code, result.stdout, result.stderr + faults)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    write_images(tmp_path / "samples", GREYS)
    return write_stub_package(tmp_path / "model")


def runtime_of(package: ModelPackage, **changes: Any) -> VerifiedRuntime:
    facts: dict[str, Any] = {
        "provider": "cpu",
        "batch_rows": 1,
        "fingerprint": {"model_sha256": package.sha256},
        "fingerprint_sha256": "a" * 64,
        "image_count": 5,
        "images_sha256": "b" * 64,
        "flips": 0,
        "flips_max": 0,
        "score_difference": 0.0,
        "verified_utc": "2026-01-31T06:00:00.000000Z",
    }
    return VerifiedRuntime.model_validate(facts | changes)


def test_what_was_verified_is_on_file_for_each_batch(tmp_path: Path, model: Path) -> None:
    batches = ("--batch-rows", "1", "--batch-rows", "4")
    done = run("model", "verify", model, "--images", tmp_path / "samples", *batches, "--json", tmp_path / "told.json")
    assert done.returncode == 0, done.stderr
    package = load_package(model)
    verification = read_verification(package)
    assert verification is not None
    assert {(each.provider, each.batch_rows) for each in verification.runtimes} >= {("cpu", 1), ("cpu", 4)}
    for each in verification.runtimes:
        assert (each.flips, each.image_count) == (0, len(GREYS))
        session = open_line_session(package, RuntimeConfig(provider=each.provider), each.batch_rows)  # type: ignore[arg-type]
        assert session.fingerprint_sha256 == each.fingerprint_sha256
        assert why_unverified(package, session.fingerprint_sha256) is None
    told = json.loads((tmp_path / "told.json").read_text())
    assert all(each["passed"] for each in told["runtimes"])


@settings(deadline=None, max_examples=25)
@given(greys=st.lists(st.integers(0, 255), min_size=1, max_size=9), rows=st.integers(1, 5))
def test_whatever_the_batch_each_image_gets_its_own_verdict(
    tmp_path_factory: pytest.TempPathFactory, greys: list[int], rows: int
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    write_images(folder / "samples", greys)
    package = load_package(write_stub_package(folder / "model"))
    session = open_line_session(package, RuntimeConfig(provider="cpu"), rows)
    samples = samples_for_card(package, folder / "samples")
    inspections = list(Judging(package, session, samples).inspections())
    assert [each.score for each in inspections] == pytest.approx([grey / 255 for grey in greys], abs=1e-5)
    assert [each.verdict for each in inspections] == [
        Verdict.REJECT if np.float32(each.score) >= 0.5 else Verdict.PASS for each in inspections
    ]


def test_views_that_a_model_knows_by_name_are_judged_in_their_rows(tmp_path: Path) -> None:
    """By the folder that an image lies in; as many of one after the other as there are, whatever the number of the other."""
    package = load_package(write_views_package(tmp_path / "model", {"left": 0.3, "right": 0.7}))
    write_images(tmp_path / "samples" / "left", [77])
    with pytest.raises(FaultsError, match="no picture of right"):
        samples_for_card(package, tmp_path / "samples")
    for view, greys in (("left", [77, 179, 77]), ("right", [179])):
        write_images(tmp_path / "samples" / view, greys)
    samples = samples_for_card(package, tmp_path / "samples")
    session = open_line_session(package, RuntimeConfig(provider="cpu"), 1)
    assert session.batch_rows == 2
    verdicts = [each.verdict for each in Judging(package, session, samples).inspections()]
    assert verdicts == [Verdict.PASS, Verdict.REJECT, Verdict.PASS, Verdict.PASS]
    write_images(tmp_path / "samples", [77])
    with pytest.raises(FaultsError, match=r"a picture of no view, expected it in a folder called .*: left, right"):
        samples_for_card(package, tmp_path / "samples")


def test_flips_and_differences_are_counted_against_the_reference(tmp_path: Path, model: Path) -> None:
    package = load_package(model)
    session = open_line_session(package, RuntimeConfig(provider="cpu"), 2)
    samples = samples_for_card(package, tmp_path / "samples")
    honest = list(Judging(package, session, samples).inspections())
    expected = list(honest)
    expected[0] = Inspection(Verdict.REJECT, Reason.DEFECT, honest[0].score + 0.25, ())
    expected[2] = Inspection(Verdict.NO_DECISION, Reason.FAULT, float("nan"), ())
    found = compared(package, session, samples, expected)
    assert found.flips == 2
    assert found.score_difference == 1.0
    assert not found.has_passed
    assert compared(package, session, samples, honest).has_passed


def test_what_the_reference_cannot_judge_proves_nothing(tmp_path: Path) -> None:
    write_images(tmp_path / "samples", [200, 220, 250])
    model = write_nan_package(tmp_path / "model", only_when_bright=True)
    done = run("model", "verify", model, "--images", tmp_path / "samples", "--provider", "cpu")
    assert done.returncode == 1
    assert "the reference itself could judge none of the 3 images" in done.stderr
    package = load_package(model)
    fingerprint = open_line_session(package, RuntimeConfig(provider="cpu"), 1).fingerprint_sha256
    assert "could judge none" in (why_unverified(package, fingerprint) or "")
    write_images(tmp_path / "samples", [10, 220, 250])
    done = run("model", "verify", model, "--images", tmp_path / "samples", "--provider", "cpu")
    assert done.returncode == 0, done.stderr
    assert "2 of 3 views could not be judged by the reference" in done.stdout
    assert why_unverified(package, fingerprint) is None


@pytest.mark.parametrize(
    ("limits", "flips", "difference", "has_passed"),
    [
        ({}, 0, 0.3, True),
        ({}, 1, 0.0, False),
        ({"flips_max": 1}, 1, 0.0, True),
        ({"flips_max": 1}, 2, 0.0, False),
        ({"score_difference_max": 0.1}, 0, 0.1, True),
        ({"score_difference_max": 0.1}, 0, 0.11, False),
    ],
)
def test_the_limits_decide(
    tmp_path: Path, limits: dict[str, Any], flips: int, difference: float, has_passed: bool
) -> None:
    package = load_package(write_stub_package(tmp_path / "model"))
    found = runtime_of(package, flips=flips, score_difference=difference, **limits)
    assert found.has_passed is has_passed
    write_verification(package, [found])
    reason = why_unverified(package, found.fingerprint_sha256)
    assert (reason is None) is has_passed
    if reason is not None:
        assert "failed its verification" in reason


def test_the_cards_limits_are_used(tmp_path: Path) -> None:
    limits = {"flips_max": 3, "score_difference_max": 0.2}
    write_images(tmp_path / "samples", GREYS)
    model = write_stub_package(tmp_path / "model", card={"verification": limits})
    assert run("model", "verify", model, "--images", tmp_path / "samples").returncode == 0
    verification = read_verification(load_package(model))
    assert verification is not None
    assert {(each.flips_max, each.score_difference_max) for each in verification.runtimes} == {(3, 0.2)}


def test_other_runtimes_stay_on_file_and_the_same_one_is_replaced(tmp_path: Path, model: Path) -> None:
    package = load_package(model)
    write_verification(package, [runtime_of(package), runtime_of(package, fingerprint_sha256="c" * 64)])
    write_verification(package, [runtime_of(package, flips=2)])
    verification = read_verification(package)
    assert verification is not None
    assert [(each.fingerprint_sha256[0], each.flips) for each in verification.runtimes] == [("c", 0), ("a", 2)]
    assert {file.name for file in model.iterdir()} == {"model.onnx", "model.yaml", FILE_NAME}


def test_what_several_find_at_once_is_all_kept(model: Path) -> None:
    package, fingerprints = load_package(model), [f"{index:064x}" for index in range(16)]
    together = Barrier(len(fingerprints))

    def found(fingerprint: str) -> None:
        together.wait()
        write_verification(package, [runtime_of(package, fingerprint_sha256=fingerprint)])

    with ThreadPoolExecutor(len(fingerprints)) as writers:
        list(writers.map(found, fingerprints))
    verification = read_verification(package)
    assert verification is not None
    assert sorted(each.fingerprint_sha256 for each in verification.runtimes) == fingerprints


def test_another_card_or_model_makes_it_void(tmp_path: Path, model: Path) -> None:
    package = load_package(model)
    write_verification(package, [runtime_of(package)])
    card = yaml.safe_load(package.card_path.read_text())
    package.card_path.write_text(yaml.safe_dump({**card, "limitations": "none known", "accuracy": {"auroc": 0.9}}))
    assert why_unverified(load_package(model), "a" * 64) is None
    package.card_path.write_text(yaml.safe_dump({**card, "thresholds": {"defective": 0.6}}))
    assert "with another card" in (why_unverified(load_package(model), "a" * 64) or "")
    write_stub_package(model, width_px=8)
    assert "with another model.onnx" in (why_unverified(load_package(model), "a" * 64) or "")
    replaced = load_package(model)
    write_verification(replaced, [runtime_of(replaced, fingerprint_sha256="c" * 64)])
    assert "never verified on this runtime" in (why_unverified(replaced, "a" * 64) or "")


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"schema": "lineside.verification/1"}', b"\xff\xfe", b"0" * (5 << 20)]
)
def test_a_file_that_is_none_of_ours_is_a_fault_and_is_kept(model: Path, content: bytes) -> None:
    package = load_package(model)
    (model / FILE_NAME).write_bytes(content)
    with pytest.raises(FaultsError, match=FILE_NAME):
        why_unverified(package, "a" * 64)
    with pytest.raises(FaultsError, match=FILE_NAME):
        write_verification(package, [runtime_of(package)])
    assert (model / FILE_NAME).read_bytes() == content


def test_a_disk_that_fails_says_nothing_of_the_package(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that starts again waits for it instead of ending the service."""
    package = load_package(model)

    def fails(*_: Any, **__: Any) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(file, "read_plain_file", fails)
    with pytest.raises(PackageUnreadable, match="Input/output error"):
        why_unverified(package, "a" * 64)


def test_a_link_out_of_the_package_is_not_followed(tmp_path: Path, model: Path) -> None:
    package = load_package(model)
    write_verification(package, [runtime_of(package)])
    (model / FILE_NAME).rename(tmp_path / "elsewhere.json")
    (model / FILE_NAME).symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(FaultsError, match="a link"):
        why_unverified(package, "a" * 64)


def test_check_refuses_until_it_is_verified_with_that_very_line(tmp_path: Path) -> None:
    line = write_line(tmp_path, 1, runtime={"provider": "cpu", "intra_op_threads": 2})
    refused = run("check", line)
    assert refused.returncode == 1
    command = f"lineside model verify {tmp_path / 'model'} --images DIR --config {line}"
    assert f"never verified: it has no {FILE_NAME}" in refused.stderr
    assert command in refused.stderr
    other = run("model", "verify", tmp_path / "model", "--images", tmp_path / "images")
    assert other.returncode == 0, other.stderr
    assert "never verified on this runtime" in run("check", line).stderr
    done = run("model", "verify", tmp_path / "model", "--images", tmp_path / "images", "--config", line)
    assert done.returncode == 0, done.stderr
    passed = run("check", line)
    assert passed.returncode == 0, passed.stderr
    assert "verified  yes" in passed.stdout


def test_check_warns_where_that_is_configured(tmp_path: Path) -> None:
    line = write_line(tmp_path, 1, runtime={"on_unverified": "warn"})
    done = run("check", line)
    assert done.returncode == 0
    assert "lineside: warning: model" in done.stderr
    assert "verified  NO" in done.stdout


def test_a_broken_file_is_a_warning_where_that_is_configured(tmp_path: Path) -> None:
    line = write_line(tmp_path, 1, runtime={"on_unverified": "warn"})
    (tmp_path / "model" / FILE_NAME).write_text("{")
    done = run("check", line)
    assert done.returncode == 0, done.stderr
    assert "lineside: warning:" in done.stderr
    assert FILE_NAME in done.stderr
    assert "verified  NO" in done.stdout
    line = write_line(tmp_path, 1, runtime={"on_unverified": "refuse"})
    assert run("check", line).returncode == 2


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--images", "nowhere"], "nowhere: got no folder"),
        (["--images", "model"], "no image in it"),
        (["--images", "broken"], "no image, or one that cannot be used"),
        (["--images", "samples", "--provider", "abacus"], "--provider: got abacus, expected one of"),
        (["--images", "samples", "--batch-rows", "0"], "--batch-rows"),
        (["--images", "samples", "--config", "line.yaml"], "the package to verify"),
        (
            ["--images", "large", "--config", "same.yaml"],
            "got 40x40 pixels, expected a frame of one of the line's cameras",
        ),
    ],
)
def test_bad_input_is_named(
    tmp_path: Path, model: Path, arguments: list[str], text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.png").write_bytes(b"no image")
    write_images(tmp_path / "large", [3], size_px=40)
    write_line(tmp_path, 1).rename(tmp_path / "same.yaml")
    (tmp_path / "other").mkdir()
    (tmp_path / "line.yaml").symlink_to(write_line(tmp_path / "other", 1))
    monkeypatch.chdir(tmp_path)
    done = run("model", "verify", "model", *arguments)
    assert done.returncode == 2
    assert text in " ".join(done.stderr.split())
    assert not (model / FILE_NAME).exists()


@pytest.mark.parametrize("name", ["model/verification.json", "samples/mine.json", "line.yaml", "recipe.yaml"])
def test_the_result_never_takes_the_place_of_what_is_read(tmp_path: Path, model: Path, name: str) -> None:
    line, target = write_line(tmp_path, 1), tmp_path / name
    # Indented JSON, which is YAML too: as an earlier result begins.
    told = yaml.safe_load(target.read_text()) if target.exists() else {"images": []}
    target.write_text(json.dumps(told, indent=2))
    done = run("model", "verify", model, "--images", tmp_path / "samples", "--config", line, "--json", target)
    assert done.returncode == 2
    assert "--json" in done.stderr
    assert "expected a place outside" in done.stderr
    assert json.loads(target.read_text()) == told


def test_a_runtime_that_breaks_off_fails_alone_and_is_no_longer_verified(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("model", "verify", model, "--images", tmp_path / "samples", "--provider", "cpu", "--batch-rows")
    assert run(*command, "1", "--batch-rows", "3").returncode == 0
    package = load_package(model)
    one, three = (open_line_session(package, RuntimeConfig(provider="cpu"), rows).fingerprint_sha256 for rows in (1, 3))
    assert why_unverified(package, three) is None
    honest = Session.run

    def breaks_off(session: Session) -> None:
        if session.batch_rows > 1:
            raise InferenceError("the model did not run: out of luck")
        honest(session)

    monkeypatch.setattr(Session, "run", breaks_off)
    done = run(*command, "1", "--batch-rows", "3", "--batch-rows", "2", "--json", tmp_path / "told.json")
    assert done.returncode == 1
    assert "cpu, 3 rows: the model did not run: out of luck" in " ".join(done.stderr.split())
    told = json.loads((tmp_path / "told.json").read_text())
    assert [each["batch_rows"] for each in told["runtimes"]] == [1]
    assert set(told["not_run"]) == {"cpu, 2 rows", "cpu, 3 rows"}
    assert why_unverified(package, one) is None
    assert "never verified on this runtime" in (why_unverified(package, three) or "")


def test_a_provider_that_was_asked_for_and_does_not_run_is_a_failure(tmp_path: Path, model: Path) -> None:
    done = run("model", "verify", model, "--images", tmp_path / "samples", "--provider", "tensorrt")
    assert done.returncode == 1
    assert "tensorrt does not run here" in done.stderr


def test_the_providers_asked_for_are_measured_alone_whatever_the_lines_own_is(tmp_path: Path) -> None:
    line = write_line(tmp_path, 1, runtime={"provider": "tensorrt"})
    command = ("model", "verify", tmp_path / "model", "--images", tmp_path / "images", "--config", line)
    done = run(*command, "--provider", "cpu", "--json", tmp_path / "told.json")
    assert done.returncode == 0, done.stderr
    told = json.loads((tmp_path / "told.json").read_text())
    assert ([each["provider"] for each in told["runtimes"]], told["not_run"]) == (["cpu"], {})
    assert "tensorrt does not run here" in run(*command).stderr


def test_a_card_without_thresholds_asks_for_a_line(tmp_path: Path) -> None:
    write_images(tmp_path / "samples", [1])
    model = write_stub_package(tmp_path / "model", card={"thresholds": None})
    done = run("model", "verify", model, "--images", tmp_path / "samples")
    assert done.returncode == 2
    assert "--config" in done.stderr

"""A model tried in a process of its own: what never ends or brings its process down is refused, and nobody waits for it.

The child opens the model on the CPU and runs it once, as the line would, within a bound of memory (``vision.memory_bound``), of
time, and of files: it may write none.
"""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from vision.faults import Fault, FaultsError

TIME_MAX_S = 60
"""From the start of the child to its answer."""

# Not `python -m`, which looks into the working directory first: that may be a stranger's package, with a numpy.py in it.
_CHILD = (
    "import runpy, sys; sys.path[:] = [place for place in sys.path if place]; "
    "runpy.run_module('pipeline.model_probe', run_name='__main__', alter_sys=True)"
)


class RefusedByProbe(FaultsError):
    """The model does not open, does not run, or does not end."""


@dataclass(frozen=True, slots=True)
class Probed:
    """What a first run showed. ``outputs``: role -> shape of one row.

    ``unread`` says why the decoder could not read what noise or black made; a good model may well do so, one whose
    card has the wrong activation does it always.
    """

    outputs: dict[str, list[int]]
    unread: str | None
    run_us: float
    peak_bytes: int


def probe_model(path: Path, *, batch_rows: int = 1, time_max_s: float = TIME_MAX_S) -> Probed:
    """Loads the package at ``path`` and runs it once, elsewhere. Raises RefusedByProbe with the child's faults."""
    command = [sys.executable, "-c", _CHILD, str(path), str(batch_rows), str(int(time_max_s) + 1)]
    try:
        # What ONNX Runtime logs of a model that fails is said in the fault.
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=time_max_s, check=False)
    except subprocess.TimeoutExpired:
        raise RefusedByProbe([_too_long(path, time_max_s)]) from None
    if done.returncode == 0:
        answer = json.loads(done.stdout)
        if faults := answer.get("faults"):
            raise RefusedByProbe([Fault(*fault) for fault in faults])
        return Probed(answer["outputs"], answer["unread"], answer["run_us"], answer["peak_bytes"])
    if done.returncode == -signal.SIGXCPU:
        raise RefusedByProbe([_too_long(path, time_max_s)])
    last_line = (done.stderr.decode(errors="replace").strip().splitlines() or ["no word"])[-1]
    ended = signal.Signals(-done.returncode).name if done.returncode < 0 else f"status {done.returncode}: {last_line}"
    raise RefusedByProbe([Fault(str(path), "", f"an end of the process that opened it ({ended})", "a model that runs")])


def _too_long(path: Path, time_max_s: float) -> Fault:
    return Fault(
        str(path), "time", f"no result after {time_max_s:g} s", "a model that opens and runs once within that time"
    )


def _main(path: Path, batch_rows: int, cpu_s: int) -> None:
    for limit, value in ((resource.RLIMIT_CORE, 0), (resource.RLIMIT_FSIZE, 0), (resource.RLIMIT_CPU, cpu_s)):
        resource.setrlimit(limit, (value, resource.getrlimit(limit)[1]))
    # Imported under the limits.
    from time import perf_counter_ns

    from vision.decoders.base import BadOutput
    from vision.geometry import row_geometry
    from vision.inspector import decoder_of
    from vision.package import load_package
    from vision.recipe import Region
    from vision.runtime import InferenceError, RuntimeProviderError, open_session

    try:
        package = load_package(path)
        session = open_session(
            package,
            provider="cpu",
            batch_rows=batch_rows,
            intra_op_threads=1,
            engine_cache=None,
            allow_fallback=False,
        )
        card = package.card
        whole = Region(name="whole", x_px=0, y_px=0, width_px=card.input.width_px, height_px=card.input.height_px)
        decoder = decoder_of(package, session, row_geometry(whole, card.input))
        session.warm_up(2)
        unread = None
        for of in ("noise", "zeros"):
            try:
                decoder.decode(session.rows[0])
            except BadOutput as error:
                unread = f"made of {of}: {error}"
            began_ns = perf_counter_ns()
            session.run()
            run_us = (perf_counter_ns() - began_ns) / 1000
    except FaultsError as error:
        faults = [[fault.file, fault.key, fault.got, fault.expected] for fault in error.faults]
        print(json.dumps({"faults": faults}))
        return
    except (InferenceError, RuntimeProviderError) as error:
        print(json.dumps({"faults": [[str(path), "", f"a model that fails ({error})", "one that runs"]]}))
        return
    outputs = {role: list(tensor.row_shape) for role, tensor in session.formats.items()}
    peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"outputs": outputs, "unread": unread, "run_us": run_us, "peak_bytes": peak_bytes}))


if __name__ == "__main__":
    _main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))

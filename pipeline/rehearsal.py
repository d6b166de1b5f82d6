"""A whole line on one box: belt, broker, service, controller and an observer on the wire, each a process of its own.

The demo, the measurements and the tests are runs of this. The service under test gets a configuration file and signals, as any
service would; nothing else connects it with the simulators.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import yaml

from pipeline.ledger_file import ledger_files
from pipeline.simulator.broker import BrokerProcess, start_broker
from pipeline.simulator.controller import ControllerOptions, ControllerProcess
from pipeline.simulator.gate import Mutant
from pipeline.simulator.images import ImageSource, SyntheticImages, frame_geometry
from pipeline.simulator.line import CameraOptions, FaultOptions, LineOptions, LineProcess, SpeedChange
from pipeline.simulator.namespace import NetworkNamespace
from pipeline.simulator.observer import ObserverOptions, ObserverProcess
from pipeline.simulator.process import stop_with_parent
from pipeline.simulator.proxy import ProxyOptions, ProxyProcess
from pipeline.simulator.truth import Truth, find_truth, stream_book

TOPIC_ROOT = "lineside/demo/line1/aoi1"
_READY_TIMEOUT_S = 300.0
_STOP_TIMEOUT_S = 30.0
_TRAVEL_MARGIN_S = 60.0
_PROGRESS_EVERY_S = 0.5
_LAST_WORDS = 2_000


class RehearsalError(RuntimeError):
    """One of the processes did not do its part; the text carries its last words."""


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What is to be played. ``service`` is merged over the generated line configuration, ``camera`` over each camera's,
    ``controller`` over what the controller knows of the gate.

    ``belt_offsets_pulses``: of each camera, where they are not all at the trigger station; ``service`` then says the rest of it.

    ``cable`` is the service's way to the broker: none, a TCP proxy that can be faulty, or such a proxy as the only way out of
    a network namespace that the service lives in. Controller and observer always stay on the broker itself.
    ``service_environment`` is added to the service's environment, ``service_arguments`` to ``lineside run``.
    """

    model: Path
    images: ImageSource = field(default_factory=SyntheticImages)
    rules: Mapping[str, float] = field(default_factory=lambda: {"defective": 0.5})
    parts: int | None = None
    parts_per_min: float = 1200.0
    speed_mm_s: float = 1000.0
    pulses_per_mm: float = 10.0
    trigger_jitter_us: float = 0.0
    encoder_jitter_pulses: int = 0
    slip_pulses: float = 0.0
    camera_ids: tuple[str, ...] = ("cam0",)
    belt_offsets_pulses: tuple[int, ...] = ()
    deadline_us: int = 40_000
    gate_offset_pulses: int = 800
    encoder_bits: int = 32
    encoder_start_count: int = 0
    faults: tuple[FaultOptions, ...] = ()
    speed_changes: tuple[SpeedChange, ...] = ()
    mutant: Mutant | None = None
    broker: Literal["auto", "mosquitto", "amqtt"] = "auto"
    service: Mapping[str, Any] = field(default_factory=dict)
    camera: Mapping[str, Any] = field(default_factory=dict)
    controller: Mapping[str, Any] = field(default_factory=dict)
    cable: Literal["direct", "proxy", "namespace"] = "direct"
    service_environment: Mapping[str, str] = field(default_factory=dict)
    service_arguments: tuple[str, ...] = ()
    seed: int = 0


class RehearsalRun:
    """The processes of one rehearsal, in ``folder``. A context manager: everything is stopped at its end."""

    proxy: ProxyProcess
    """The service's cable; not there with a direct one."""
    namespace: NetworkNamespace
    """Where the service lives; there only with the cable "namespace"."""

    def __init__(self, plan: Rehearsal, folder: Path) -> None:
        self.plan = plan
        self.folder = folder
        self.line_file = folder / "line.yaml"
        self.record_file = Path(plan.service.get("records", {}).get("path", folder / "records.db"))
        self._words = ""
        self._closing = contextlib.ExitStack()
        self._service: subprocess.Popen[bytes] | None = None
        self._service_prefix: list[str] = []

    def __enter__(self) -> RehearsalRun:
        try:
            self._start_world()
            self.start_service()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop whatever still runs."""
        self._end_service()
        self._closing.close()
        # Nobody will start on this record again, to close what a killed service left.
        for left in ledger_files(self.record_file):
            left.unlink(missing_ok=True)

    def _end_service(self) -> None:
        if self._service is not None:
            if self._service.poll() is None:
                self._service.kill()
            self._service.wait()
            assert self._service.stdout is not None
            self._service.stdout.close()
            self._service = None

    @property
    def service_pid(self) -> int:
        """The supervisor's."""
        return self._running().pid

    @property
    def service_has_ended(self) -> bool:
        """Whether the supervisor is gone."""
        return self._running().poll() is not None

    @property
    def service_errors(self) -> str:
        """What the service wrote to standard error so far."""
        return (self.folder / "service.log").read_text(encoding="utf-8", errors="replace")

    @property
    def service_words(self) -> str:
        """What the service printed so far, as far as it was waited for."""
        return self._words

    def start_service(self, *, wait: bool = True, timeout_s: float = _READY_TIMEOUT_S) -> None:
        """Start ``lineside run``, again if one has died, and wait until it is RUNNING unless told not to."""
        self._end_service()
        command = [sys.executable, "-m", "pipeline.cli", "run", str(self.line_file), "--json", str(self._summary_file)]
        command += self.plan.service_arguments
        with (self.folder / "service.log").open("ab") as log:
            self._service = subprocess.Popen(
                [*self._service_prefix, *command],
                stdout=subprocess.PIPE,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                preexec_fn=stop_with_parent,  # safe beside threads: one system call, no lock
                cwd=Path(__file__).resolve().parents[1],
                env={**os.environ, **self.plan.service_environment},
            )
        if wait:
            self.wait_for("RUNNING", timeout_s)

    def wait_for(self, word: str, timeout_s: float) -> None:
        """Wait until the service prints a new line that begins with ``word``. Raises RehearsalError."""
        stdout = self._running().stdout
        assert stdout is not None
        give_up_s = time.monotonic() + timeout_s
        pending = ""
        while True:
            ready, _, _ = select.select([stdout], [], [], max(0.0, give_up_s - time.monotonic()))
            chunk = os.read(stdout.fileno(), 4096).decode(errors="replace") if ready else ""
            if not chunk:
                raise RehearsalError(f"the service did not say {word}; it said {self._words!r}; {self.service_errors}")
            self._words += chunk
            pending += chunk
            *lines, pending = pending.split("\n")
            if any(line.startswith(word) for line in lines):
                return

    def read_words(self) -> None:
        """Take what the service has printed meanwhile, so that it never waits for its reader."""
        stdout = self._running().stdout
        assert stdout is not None
        while select.select([stdout], [], [], 0)[0] and (chunk := os.read(stdout.fileno(), 4096)):
            self._words += chunk.decode(errors="replace")

    def play(self, *, progress: Callable[[], None] | None = None, timeout_s: float | None = None) -> None:
        """Let all parts of the plan come and go past the gate. ``progress`` is called about twice a second."""
        self.line.start_parts()
        if timeout_s is None:
            assert self.plan.parts is not None
            timeout_s = self.plan.parts * 60.0 / self.plan.parts_per_min * 1.5 + _TRAVEL_MARGIN_S
        self.wait_finished(timeout_s, progress=progress)

    def wait_finished(self, timeout_s: float, *, progress: Callable[[], None] | None = None) -> None:
        """Wait until the last part is past the gate."""
        give_up_s = time.monotonic() + timeout_s
        while progress is not None and not self._all_past_gate() and time.monotonic() < give_up_s:
            progress()
            time.sleep(_PROGRESS_EVERY_S)
        self.line.wait_finished(max(1.0, give_up_s - time.monotonic()))

    def _all_past_gate(self) -> bool:
        return bool(self.line.report()["parts_at_gate"] == self.plan.parts)

    def stop_service(self) -> dict[str, Any]:
        """SIGTERM; the summary that the service leaves."""
        service = self._running()
        service.send_signal(signal.SIGTERM)
        try:
            status = service.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise RehearsalError(f"the service did not stop within {_STOP_TIMEOUT_S:.0f} s") from None
        if status != 0:
            raise RehearsalError(f"the service ended with status {status}: {self.service_errors[-_LAST_WORDS:]}")
        summary: dict[str, Any] = json.loads(self._summary_file.read_text())
        return summary

    def stop_world(self) -> Truth:
        """Stop the simulators and compare their books."""
        self._closing.close()
        books = (self.folder / name for name in ("line.jsonl", "gate.jsonl", "wire.jsonl"))
        return find_truth(*map(stream_book, books))

    # ------------------------------------------------------------------------------------------------------------

    @property
    def _summary_file(self) -> Path:
        return self.folder / "summary.json"

    def _running(self) -> subprocess.Popen[bytes]:
        if self._service is None:
            raise RehearsalError("the service was not started")
        return self._service

    def _start_world(self) -> None:
        plan, folder = self.plan, self.folder
        self.broker: BrokerProcess = self._closing.enter_context(start_broker(plan.broker))
        self._lay_cable()
        offsets = plan.belt_offsets_pulses or (0,) * len(plan.camera_ids)
        line_options = self.line_options = LineOptions(
            cameras=[
                CameraOptions(camera_id=name, path=folder / f"{name}.sock", belt_offset_pulses=offset)
                for name, offset in zip(plan.camera_ids, offsets, strict=True)
            ],
            book_path=folder / "line.jsonl",
            controller_path=folder / "controller.sock",
            images=plan.images,
            parts=plan.parts,
            parts_per_min=plan.parts_per_min,
            speed_mm_s=plan.speed_mm_s,
            pulses_per_mm=plan.pulses_per_mm,
            trigger_jitter_us=plan.trigger_jitter_us,
            encoder_jitter_pulses=plan.encoder_jitter_pulses,
            slip_pulses=plan.slip_pulses,
            gate_offset_pulses=plan.gate_offset_pulses,
            encoder_bits=plan.encoder_bits,
            encoder_start_count=plan.encoder_start_count,
            faults=list(plan.faults),
            speed_changes=list(plan.speed_changes),
            seed=plan.seed,
        )
        self._write_configuration(line_options)
        self.observer = self._closing.enter_context(
            ObserverProcess(
                ObserverOptions(broker=self.broker.address(), root=TOPIC_ROOT, log_path=folder / "wire.jsonl")
            )
        )
        self.controller = self._closing.enter_context(
            ControllerProcess(
                ControllerOptions(
                    broker=self.broker.address(),
                    root=TOPIC_ROOT,
                    line_path=folder / "controller.sock",
                    book_path=folder / "gate.jsonl",
                    encoder_bits=plan.encoder_bits,
                    mutant=plan.mutant,
                    **{
                        "gate_offset_pulses": plan.gate_offset_pulses,
                        "window_pulses": line_options.window_pulses,
                        **plan.controller,
                    },
                )
            )
        )
        self.line = self._closing.enter_context(LineProcess(line_options))

    def _lay_cable(self) -> None:
        if self.plan.cable == "direct":
            return
        netns_path: Path | None = None
        if self.plan.cable == "namespace":
            self.namespace = self._closing.enter_context(NetworkNamespace())
            self._service_prefix = self.namespace.command_prefix
            netns_path = self.namespace.path
        options = ProxyOptions(target_host=self.broker.host, target_port=self.broker.port, netns_path=netns_path)
        self.proxy = self._closing.enter_context(ProxyProcess(options))

    def _write_configuration(self, line_options: LineOptions) -> None:
        plan = self.plan
        geometry = frame_geometry(plan.images)
        region = {
            "name": "part",
            "x_px": 0,
            "y_px": 0,
            "width_px": geometry.picture_width_px,
            "height_px": geometry.picture_height_px,
        }
        mark = {"x_px": geometry.mark_x_px, "y_px": geometry.mark_y_px, "cell_px": geometry.mark_cell_px}
        recipe = {
            "recipe_id": plan.model.name,
            "recipe_version": "1",
            "model": str(plan.model.resolve()),
            "views": [{"camera_id": name, "regions": [region], "part_mark": mark} for name in plan.camera_ids],
            "rules": [{"class": name, "reject_at_score": score} for name, score in plan.rules.items()],
        }
        line: dict[str, Any] = {
            "topic_root": TOPIC_ROOT,
            "recipe": "recipe.yaml",
            "cameras": [
                {
                    "camera_id": camera.camera_id,
                    "kind": "simulated",
                    "address": str(camera.path),
                    "width_px": geometry.frame_width_px,
                    "height_px": geometry.frame_height_px,
                    "pixel_format": geometry.pixel_format.value,
                    "belt_offset_pulses": camera.belt_offset_pulses,
                    **plan.camera,
                }
                for camera in line_options.cameras
            ],
            "timing": {"deadline_us": plan.deadline_us},
            "encoder": {"bits": plan.encoder_bits, "reject_offset_pulses": plan.gate_offset_pulses},
            "mqtt": {"port": self.broker.port if plan.cable == "direct" else self.proxy.port},
            "records": {"path": str(self.record_file)},
            "runtime": {"on_unverified": "warn"},  # whatever model is played, on whatever box
            "is_simulated": True,
        }
        for key, value in plan.service.items():
            line[key] = {**line[key], **value} if isinstance(line.get(key), dict) else value
        (self.folder / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
        self.line_file.write_text(yaml.safe_dump(line), encoding="utf-8")

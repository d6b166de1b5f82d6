"""The run: deals faults from a shuffled deck, one at a time at random moments, and lets the books be compared at the end."""

from __future__ import annotations

import importlib.util
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pipeline.bench.chaos.books import CALM, Account, Episode, read_rows, read_words, take_account
from pipeline.bench.chaos.disk import RECORD_BYTES_PER_PART, DiskUnavailable, SmallDisk
from pipeline.bench.chaos.faults import CATALOGUE, FaultOfKind, World
from pipeline.bench.chaos.wall_clock import SteppedClock
from pipeline.bench.chaos.watch import WireWatch
from pipeline.bench.statistics import share_interval
from pipeline.clock import NS_PER_S, now_ns
from pipeline.config import load_line
from pipeline.record.files import record_files
from pipeline.rehearsal import Rehearsal, RehearsalError, RehearsalRun
from pipeline.rules import Timing
from pipeline.simulator.faulty_model import write_faulty_package
from pipeline.simulator.gate import Mutant
from pipeline.simulator.images import ImageSource
from pipeline.simulator.namespace import NamespaceUnavailable, NetworkNamespace
from vision.package import load_package

_CALM_S = 20.0
_GAP_S = (0.2, 1.2)
_RECOVERY_TIMEOUT_S = 60.0
_POLL_S = 0.02
_IMAGES_GIB = 0.2
_RECORD_BYTES_LEAST = 256 << 20


@dataclass(frozen=True, slots=True)
class Chaos:
    """What is to be run. ``seconds``: no new fault after so long. ``kinds``: null for all that can be run here."""

    model: Path
    images: ImageSource
    faults: int
    seconds: float
    seed: int = 0
    parts_per_min: float = 1_200.0
    deadline_us: int = 40_000
    gate_offset_pulses: int = 800
    kinds: Sequence[str] | None = None
    mutant: Mutant | None = None
    calm_s: float = _CALM_S


@dataclass(frozen=True, slots=True)
class Progress:
    """For whoever watches the run."""

    episode: int
    kind: str
    what: str
    recovery_s: float | None


def run_chaos(plan: Chaos, progress: Callable[[Progress], None] = lambda _: None) -> dict[str, Any]:
    """Runs the plan; the table, the figures and every violation. Raises RehearsalError, SimulatorError, ImageError."""
    with tempfile.TemporaryDirectory(prefix="lineside-chaos-") as name:
        return _Run(plan, Path(name), progress).play()


class _Run:
    def __init__(self, plan: Chaos, folder: Path, progress: Callable[[Progress], None]) -> None:
        self._plan = plan
        self._folder = folder
        self._progress = progress
        self._chance = random.Random(plan.seed)
        self._not_run: dict[str, str] = {}
        self._cut_short: str | None = None

    def play(self) -> dict[str, Any]:
        folder = self._folder
        started_ns = now_ns()
        disk = self._make_disk()
        try:
            clock = SteppedClock(folder / "clock")
            damaged = folder / "damaged"
            damaged.mkdir()
            rehearsal = self._rehearsal(folder if disk is None else disk.folder, clock)
            deck = self._deck()
            with RehearsalRun(rehearsal, folder) as run:
                timing = Timing.of(load_line(run.line_file).config)
                world = World(run, self._chance, disk, clock, damaged)
                episodes = self._strike_all(world, deck)
                run.line.finish()
                run.wait_finished(_RECOVERY_TIMEOUT_S)
                end_violations = self._stop(run)
                truth = run.stop_world()
            rows = read_rows([*sorted(damaged.glob("*.db")), *record_files(run.record_file)])
        finally:
            if disk is not None:
                disk.close()
        words = read_words(folder / "wire.jsonl")
        accounts, violations = take_account(rows, truth, words, episodes, world.deaf_ns, timing)
        return self._report(accounts, [*end_violations, *violations], episodes, started_ns)

    def _stop(self, run: RehearsalRun) -> list[str]:
        """A service that does not end in order has something to hide; the books are compared all the same."""
        try:
            run.stop_service()
        except RehearsalError as error:
            return [f"(end): {error}"]
        return []

    def _make_disk(self) -> SmallDisk | None:
        parts = self._plan.parts_per_min * self._plan.seconds / 60.0
        size_bytes = _RECORD_BYTES_LEAST + int(parts * RECORD_BYTES_PER_PART)
        try:
            return SmallDisk(self._folder / "disk", size_bytes)
        except DiskUnavailable as error:
            self._lack("disk", str(error))
            return None

    def _rehearsal(self, record_folder: Path, clock: SteppedClock) -> Rehearsal:
        plan = self._plan
        model = plan.model
        cable: Literal["proxy", "namespace"] = "proxy"
        if importlib.util.find_spec("onnx") is None:
            self._lack("faulty_model", "a model that misbehaves is made with onnx: pip install onnx")
        else:
            model = write_faulty_package(plan.model, self._folder / "model")
        try:
            with NetworkNamespace():
                cable = "namespace"
        except NamespaceUnavailable as error:
            self._lack("namespace", str(error))
        return Rehearsal(
            model=model,
            images=plan.images,
            rules=load_package(plan.model).card.thresholds,
            parts_per_min=plan.parts_per_min,
            deadline_us=plan.deadline_us,
            gate_offset_pulses=plan.gate_offset_pulses,
            mutant=plan.mutant,
            cable=cable,
            # The pictures not on the record's disk, which is filled and made read-only.
            service={
                "records": {"path": str(record_folder / "records.db")},
                "images": {"path": str(self._folder / "images"), "max_gib": _IMAGES_GIB, "free_min_gib": 0.0},
            },
            service_environment=clock.environment,
            seed=plan.seed,
        )

    def _lack(self, need: str, why: str) -> None:
        for entry in CATALOGUE:
            if need in entry.needs:
                self._not_run[entry.kind] = why

    def _deck(self) -> Iterator[FaultOfKind]:
        """Every kind once, in random order, then again."""
        wanted = self._plan.kinds
        cards = [
            entry for entry in CATALOGUE if entry.kind not in self._not_run and (not wanted or entry.kind in wanted)
        ]
        while cards:
            self._chance.shuffle(cards)
            yield from cards

    def _strike_all(self, world: World, deck: Iterator[FaultOfKind]) -> list[Episode]:
        plan, run = self._plan, world.run
        episodes: list[Episode] = []
        watch = WireWatch(self._folder / "wire.jsonl")
        try:
            run.line.start_parts()
            time.sleep(plan.calm_s)
            end_ns = now_ns() + int(plan.seconds * NS_PER_S)
            for entry in deck:
                if len(episodes) == plan.faults:
                    break
                if now_ns() >= end_ns:
                    self._cut_short = f"the {plan.seconds:g} s were over"
                    break
                time.sleep(self._chance.uniform(*_GAP_S))
                run.read_words()
                fault_ns = now_ns()
                try:
                    what = entry.strike(world)
                except RehearsalError as error:
                    episodes.append(Episode(entry.kind, str(error), fault_ns, now_ns(), None))
                    self._cut_short = str(error)
                    break
                lifted_ns = world.lifted_ns if world.lifted_ns > fault_ns else now_ns()
                recovered_ns = self._await_recovery(watch, lifted_ns)
                episodes.append(Episode(entry.kind, what, fault_ns, lifted_ns, recovered_ns))
                recovery_s = None if recovered_ns is None else (recovered_ns - lifted_ns) / NS_PER_S
                self._progress(Progress(len(episodes), entry.kind, what, recovery_s))
                if recovered_ns is None:
                    self._cut_short = f"the service did not judge again after {entry.kind}"
                    break
            else:
                self._cut_short = "no kind asked for can be run here"
        finally:
            watch.close()
        return episodes

    def _await_recovery(self, watch: WireWatch, lifted_ns: int) -> int | None:
        give_up_ns = lifted_ns + int(_RECOVERY_TIMEOUT_S * NS_PER_S)
        while now_ns() < give_up_ns:
            recovered_ns = watch.judged_since(lifted_ns)
            if recovered_ns is not None:
                return recovered_ns
            time.sleep(_POLL_S)
        return None

    def _report(
        self, accounts: dict[str, Account], violations: list[str], episodes: Sequence[Episode], started_ns: int
    ) -> dict[str, Any]:
        plan = self._plan
        calm = accounts[CALM]
        outside = sum(account.no_decision_outside for kind, account in accounts.items() if kind != CALM)
        judged = sum(account.judged_outside for kind, account in accounts.items() if kind != CALM)
        totals = Account()
        for account in accounts.values():
            for name in _SUMMED:
                setattr(totals, name, getattr(totals, name) + getattr(account, name))
        return {
            "suite": "chaos",
            "seed": plan.seed,
            "parts_per_min": plan.parts_per_min,
            "deadline_us": plan.deadline_us,
            "faults": len(episodes),
            "faults_asked": plan.faults,
            "cut_short": self._cut_short if len(episodes) < plan.faults else None,
            "seconds": round((now_ns() - started_ns) / NS_PER_S, 1),
            "kinds": {kind: _figures(account) for kind, account in sorted(accounts.items())},
            "totals": {name: getattr(totals, name) for name in _SUMMED},
            "no_decision_without_faults": share_interval(calm.no_decision_outside, calm.judged_outside),
            "no_decision_outside_faults": share_interval(outside, judged),
            "not_run": dict(sorted(self._not_run.items())),
            "violations": violations,
            "episodes": [
                {
                    "kind": episode.kind,
                    "what": episode.what,
                    "at_s": round((episode.fault_ns - started_ns) / NS_PER_S, 3),
                    "lasted_s": round((episode.lifted_ns - episode.fault_ns) / NS_PER_S, 3),
                    "recovery_s": None
                    if episode.recovered_ns is None
                    else round((episode.recovered_ns - episode.lifted_ns) / NS_PER_S, 3),
                }
                for episode in episodes
            ],
        }


_SUMMED = (
    "triggers_observed",
    "triggers_unobserved",
    "verdicts",
    "unsent",
    "passed",
    "unjudged_passed",
    "wrong_part_passed",
    "late_at_gate",
    "records_missing",
    "other_violations",
    "no_decision_inside",
    "no_decision_outside",
    "judged_outside",
)


def _figures(account: Account) -> dict[str, Any]:
    recoveries = sorted(account.recovery_s)
    return {
        "faults": account.faults,
        "felt": account.felt,
        **{name: getattr(account, name) for name in _SUMMED},
        "reasons_inside": dict(sorted(account.reasons_inside.items())),
        "recovery_s": {
            "median": round(recoveries[len(recoveries) // 2], 3) if recoveries else None,
            "worst": round(recoveries[-1], 3) if recoveries else None,
        },
    }

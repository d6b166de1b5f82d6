"""The challenge in the running service: nothing is judged without one that passed, and it is over before it is stale."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from pipeline.challenge_file import ChallengeFile
from pipeline.clock import boot_ns
from tests.chaos.books import check_record, read_rows
from tests.hand_camera import HandCamera, judge
from tests.operator_terminal import Operator
from tests.service import Service, workers_of, write_line
from tests.tap import Tap

ROOT = "test/line"
GOOD, BAD = 40, 200
PASS, IDLE, CHALLENGED = ("PASS", "OK"), ("NO_DECISION", "NOT_RUNNING"), ("REJECT", "CHALLENGE")
KINDS: list[dict[str, Any]] = [
    {"kind": "scratched", "expected": "REJECT", "count": 2, "part_count": 2},
    {"kind": "good", "expected": "PASS", "count": 2},
]
NS_PER_HOUR = 3_600_000_000_000


def wait_for_state(tap: Tap, state: str, text: str = "") -> None:
    tap.wait_until(lambda: (last := tap.bodies("state")[-1])["state"] == state and text in last["reason"])


def begin(operator: Operator, tap: Tap, who: str = "Anna") -> None:
    assert operator.ask("start_challenge", who=who)["ok"]
    wait_for_state(tap, "CHALLENGE", "part 1 of 2 of kind scratched, which is to be rejected")


@pytest.fixture
def line(tmp_path: Path, broker_port: int, camera: HandCamera) -> Path:
    return write_line(tmp_path, broker_port, cameras=[camera.config], challenge=KINDS, challenge_valid_hours=8.0)


@pytest.fixture
def camera(tmp_socket_dir: Path) -> Any:
    with HandCamera(tmp_socket_dir) as camera:
        yield camera


def test_nothing_is_judged_before_a_challenge_has_passed(
    line: Path, tmp_path: Path, broker_port: int, camera: HandCamera
) -> None:
    """Before, after one that failed, while one is under way, after a kill in the middle, and then all is well, over restarts."""
    with (
        Service(line) as service,
        Tap(broker_port, ROOT) as tap,
        Operator(broker_port, ROOT, tap) as operator,
    ):
        camera.wait_connected()
        wait_for_state(tap, "READY", "no challenge yet; put the known parts ready and send cmd/start_challenge")
        tap.wait_until(lambda: bool(tap.bodies("alarm/challenge")))
        assert tap.bodies("alarm/challenge")[-1]["severity"] == "error"
        assert judge(camera, tap, GOOD) == [IDLE]

        # A scratched part that is not seen: every part is rejected all the same.
        begin(operator, tap)
        assert not operator.ask("start_challenge")["ok"]
        assert judge(camera, tap, BAD) == [CHALLENGED]
        wait_for_state(tap, "CHALLENGE", "part 2 of 2 of kind scratched")
        assert judge(camera, tap, GOOD, GOOD, GOOD) == [CHALLENGED] * 3
        wait_for_state(tap, "READY", "failed: 1 of 2 parts of kind scratched were not rejected; find out why, then")
        assert judge(camera, tap, GOOD) == [IDLE]

        # Abandoned, and killed in the middle: both count as failed.
        begin(operator, tap)
        assert judge(camera, tap, BAD) == [CHALLENGED]
        assert operator.ask("abandon_challenge")["ok"]
        wait_for_state(tap, "READY", "failed: abandoned (by Anna)")
        assert not operator.ask("abandon_challenge")["ok"]
        begin(operator, tap)
        workers_of(service.process.pid)["signalling"].send_signal(signal.SIGKILL)
        tap.wait_until(lambda: tap.bodies("state")[-1]["state"] == "READY")
        wait_for_state(tap, "READY", "failed: began and did not end")

        begin(operator, tap)
        assert judge(camera, tap, BAD, BAD, GOOD, GOOD) == [CHALLENGED] * 4
        wait_for_state(tap, "RUNNING")
        tap.wait_until(lambda: tap.bodies("alarm/challenge")[-1] is None)
        assert judge(camera, tap, GOOD) == [PASS]
        workers_of(service.process.pid)["signalling"].send_signal(signal.SIGKILL)
        tap.wait_until(lambda: [body["state"] for body in tap.bodies("state")].count("OFFLINE") == 2)
        wait_for_state(tap, "RUNNING")
        assert judge(camera, tap, GOOD) == [PASS]
        tap.wait_until(lambda: bool(tap.bodies("result")) and tap.bodies("result")[-1]["part_id"] == 13)
        told = {body["part_id"]: body for body in tap.bodies("result")}
        assert [part_id for part_id in sorted(told) if told[part_id]["is_challenge"]] == [2, 3, 4, 5, 7, 8, 9, 10, 11]
        assert told[2]["defects"], "what was found is on record"
        assert not told[3]["defects"]
        service.stop()
    with Service(line) as service, Tap(broker_port, ROOT) as tap:
        camera.wait_connected()
        service.wait_for("RUNNING")
        service.stop()
    check_record(read_rows(tmp_path / "records.db"))


@pytest.mark.parametrize(
    ("changes", "age_hours", "text"),
    [
        ({}, 8.1, "by Anna has expired after 8 h; put the known parts ready"),
        ({}, -24.0, "by Anna is from the future: the clock is wrong, or was"),
        ({"judged_with": "0" * 64}, 1.0, "was of another product, recipe, model, camera, calibration or plan"),
        ({"model_sha256": "0" * 64}, 1.0, "was of another product, recipe, model, camera, calibration or plan"),
        ({"passed": False, "text": "1 of 2 parts of kind scratched were not rejected"}, 1.0, "failed: 1 of 2 parts"),
    ],
)
def test_a_challenge_that_does_not_count_keeps_the_service_out_of_running(
    line: Path,
    tmp_path: Path,
    broker_port: int,
    camera: HandCamera,
    changes: dict[str, Any],
    age_hours: float,
    text: str,
) -> None:
    """Of before the box's start: expired, or from the future (the clock was set back since), of another product, failed."""
    file = ChallengeFile(tmp_path / "records.db")
    with (
        Service(line) as service,
        Tap(broker_port, ROOT) as tap,
        Operator(broker_port, ROOT, tap) as operator,
    ):
        camera.wait_connected()
        wait_for_state(tap, "READY", "no challenge yet")
        begin(operator, tap)
        assert judge(camera, tap, BAD, BAD, GOOD, GOOD) == [CHALLENGED] * 4
        wait_for_state(tap, "RUNNING")
        service.stop()
    outcome = file.read()
    assert outcome is not None
    assert outcome.passed
    ended_utc_ns = time.time_ns() - int(age_hours * NS_PER_HOUR)
    file.write(msgspec.structs.replace(outcome, ended_utc_ns=ended_utc_ns, boot_id="another", **changes))
    with Service(line) as service, Tap(broker_port, ROOT) as tap:
        camera.wait_connected()
        wait_for_state(tap, "READY", text)
        assert judge(camera, tap, GOOD) == [IDLE]
        service.stop()


def test_a_challenge_expires_while_the_line_runs_and_says_so_before(
    line: Path, tmp_path: Path, broker_port: int, camera: HandCamera
) -> None:
    file = ChallengeFile(tmp_path / "records.db")
    with (
        Service(line) as service,
        Tap(broker_port, ROOT) as tap,
        Operator(broker_port, ROOT, tap) as operator,
    ):
        camera.wait_connected()
        wait_for_state(tap, "READY", "no challenge yet")
        begin(operator, tap)
        assert judge(camera, tap, BAD, BAD, GOOD, GOOD) == [CHALLENGED] * 4
        wait_for_state(tap, "RUNNING")
        service.stop()
    outcome = file.read()
    assert outcome is not None
    left_ns = 15_000_000_000
    ended_ns = boot_ns() - 8 * NS_PER_HOUR + left_ns
    if ended_ns > 0:
        file.write(msgspec.structs.replace(outcome, ended_boot_ns=ended_ns))
    else:
        # The box has not run for so long.
        ended_ns = time.time_ns() - 8 * NS_PER_HOUR + left_ns
        file.write(msgspec.structs.replace(outcome, ended_utc_ns=ended_ns, boot_id="another"))
    with Service(line) as service, Tap(broker_port, ROOT) as tap:
        camera.wait_connected()
        service.wait_for("RUNNING")
        tap.wait_until(lambda: tap.bodies("alarm/challenge-due")[-1:] not in ([], [None]))
        assert "from then on nothing is judged" in tap.bodies("alarm/challenge-due")[-1]["text"]
        wait_for_state(tap, "READY", "has expired after 8 h")
        tap.wait_until(lambda: tap.bodies("alarm/challenge-due")[-1] is None)
        assert judge(camera, tap, GOOD) == [IDLE]
        service.stop()


def test_no_challenge_begins_that_a_restart_would_forget(
    line: Path, tmp_path: Path, broker_port: int, camera: HandCamera
) -> None:
    """Where the disk does not take that it began; and where it took that, but not how it ended, and all is killed."""
    scratch = tmp_path / "records.db.challenge.new"
    with Service(line) as service, Tap(broker_port, ROOT) as tap, Operator(broker_port, ROOT, tap) as operator:
        camera.wait_connected()
        wait_for_state(tap, "READY", "no challenge yet")
        begin(operator, tap)
        assert judge(camera, tap, BAD, BAD, GOOD, GOOD) == [CHALLENGED] * 4
        wait_for_state(tap, "RUNNING")
        tap.wait_until(lambda: (told := tap.bodies("challenge")[-1])["passed"] and told["is_kept"])
        scratch.mkdir()
        assert operator.ask("start_challenge")["ok"]
        wait_for_state(tap, "READY", "failed: abandoned (before it began, as that cannot be kept: challenge file")
        assert judge(camera, tap, BAD) == [IDLE]
        tap.wait_until(lambda: tap.bodies("alarm/challenge-not-kept")[-1:] not in ([], [None]))
        scratch.rmdir()
        tap.wait_until(lambda: tap.bodies("alarm/challenge-not-kept")[-1] is None)

        begin(operator, tap)
        scratch.mkdir()
        assert judge(camera, tap, GOOD, GOOD, GOOD, GOOD) == [CHALLENGED] * 4
        wait_for_state(tap, "READY", "failed: 2 of 2 parts of kind scratched were not rejected")
        for pid in [service.process.pid, *(worker.pid for worker in workers_of(service.process.pid).values())]:
            with contextlib.suppress(ProcessLookupError):  # some die with the supervisor
                os.kill(pid, signal.SIGKILL)
        service.process.wait()
    scratch.rmdir()
    with Service(line) as service, Tap(broker_port, ROOT) as tap:
        camera.wait_connected()
        wait_for_state(tap, "READY", "failed: began and did not end")
        service.stop()


def test_a_halt_ends_the_challenge(line: Path, broker_port: int, camera: HandCamera) -> None:
    with (
        Service(line) as service,
        Tap(broker_port, ROOT) as tap,
        Operator(broker_port, ROOT, tap) as operator,
    ):
        camera.wait_connected()
        wait_for_state(tap, "READY", "no challenge yet")
        begin(operator, tap)
        assert operator.ask("halt")["ok"]
        wait_for_state(tap, "HALTED")
        assert not operator.ask("start_challenge")["ok"]
        assert operator.ask("resume")["ok"]
        wait_for_state(tap, "READY", "failed: abandoned (the line was halted)")
        service.stop()


def test_known_parts_that_go_by_unseen_end_the_challenge(line: Path, broker_port: int, camera: HandCamera) -> None:
    with (
        Service(line) as service,
        Tap(broker_port, ROOT) as tap,
        Operator(broker_port, ROOT, tap) as operator,
    ):
        camera.wait_connected()
        wait_for_state(tap, "READY", "no challenge yet")
        begin(operator, tap)
        assert judge(camera, tap, BAD) == [CHALLENGED]
        workers_of(service.process.pid)["inspection"].send_signal(signal.SIGKILL)
        wait_for_state(tap, "READY", "failed: abandoned (the line became ERROR: ")
        assert judge(camera, tap, GOOD) == [IDLE]
        service.stop()


def test_a_plan_that_was_easier_counts_no_more(line: Path, broker_port: int, camera: HandCamera) -> None:
    """Nor a recipe that was changed under the same version."""
    with Service(line) as service, Tap(broker_port, ROOT) as tap, Operator(broker_port, ROOT, tap) as operator:
        camera.wait_connected()
        wait_for_state(tap, "READY", "no challenge yet")
        begin(operator, tap)
        assert judge(camera, tap, BAD, BAD, GOOD, GOOD) == [CHALLENGED] * 4
        wait_for_state(tap, "RUNNING")
        service.stop()
    written = yaml.safe_load(line.read_text())
    written["challenge"][0]["count"] = 3
    line.write_text(yaml.safe_dump(written))
    with Service(line) as service, Tap(broker_port, ROOT) as tap:
        camera.wait_connected()
        wait_for_state(tap, "READY", "was of another product, recipe, model, camera, calibration or plan")
        service.stop()


def led(line: Path, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "pipeline.cli", "calibrate", "challenge", str(line), "--as", "Anna", *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize(
    ("greys", "status", "words"), [((BAD, BAD, GOOD, GOOD), 0, "passed: all 4"), ((GOOD,) * 4, 1, "FAILED")]
)
def test_the_operator_is_led_through_it(
    line: Path, tmp_path: Path, broker_port: int, camera: HandCamera, greys: tuple[int, ...], status: int, words: str
) -> None:
    with Service(line) as service, Tap(broker_port, ROOT) as tap:
        camera.wait_connected()
        wait_for_state(tap, "READY", "no challenge yet")
        with led(line, "--json", str(tmp_path / "out.json")) as leading:
            wait_for_state(tap, "CHALLENGE")
            assert judge(camera, tap, *greys) == [CHALLENGED] * 4
            said, errors = leading.communicate(timeout=60)
        assert leading.returncode == status, errors
        assert "1. 2 parts of kind scratched in turn, 2 times, to be rejected each time" in said
        assert "2. part of kind good 2 times, to be passed each time" in said
        assert "challenge by Anna: part 2 of 2 of kind good, which is to be passed" in said
        assert words in said
        result = json.loads((tmp_path / "out.json").read_text())
        assert result["passed"] == (status == 0)
        assert [kind["right"] for kind in result["kinds"]] == ([2, 2] if status == 0 else [0, 2])
        # Two parts, or one part twice: the latter shows less.
        assert result["kinds"][1]["wrong_at_most"] == pytest.approx(0.95)
        assert result["kinds"][0]["wrong_at_most"] == pytest.approx(1 - 0.05**0.5 if status == 0 else 1.0)
        assert "repeats of one part say how steadily that part is judged, nothing about other parts" in said
        told = tap.bodies("challenge")[-1]
        assert (told["passed"], told["is_over"], told["is_kept"], told["who"]) == (status == 0, True, True, "Anna")
        assert [kind["judged"] for kind in told["kinds"]] == (
            [["REJECT"] * 2, ["PASS"] * 2] if status == 0 else [["PASS"] * 2, ["PASS"] * 2]
        )
        service.stop()


def test_the_operator_needs_no_file_of_the_service(
    line: Path, tmp_path: Path, broker_port: int, camera: HandCamera
) -> None:
    """Nor does the outcome wait for a disk that does not take it, or depend on where it is to be written to."""
    elsewhere = tmp_path / "elsewhere.yaml"
    written = yaml.safe_load(line.read_text())
    written["records"] = {**written.get("records", {}), "path": "/nowhere/records.db"}
    elsewhere.write_text(yaml.safe_dump(written))
    (tmp_path / "full").symlink_to("/dev/full")
    with Service(line) as service, Tap(broker_port, ROOT) as tap:
        camera.wait_connected()
        wait_for_state(tap, "READY", "no challenge yet")
        with led(elsewhere, "--json", str(tmp_path / "full")) as leading:
            wait_for_state(tap, "CHALLENGE", "part 1 of 2")
            (tmp_path / "records.db.challenge.new").mkdir()
            assert judge(camera, tap, BAD, BAD, GOOD, GOOD) == [CHALLENGED] * 4
            said, errors = leading.communicate(timeout=60)
        assert leading.returncode == 1
        assert "passed: all 4" in said
        assert "this is not on disk yet, see the alarm challenge-not-kept" in errors
        assert "full: No space left on device" in errors
        assert "the challenge passed all the same" in errors
        wait_for_state(tap, "RUNNING")
        (tmp_path / "records.db.challenge.new").rmdir()
        tap.wait_until(lambda: tap.bodies("challenge")[-1]["is_kept"])
        service.stop()


def test_an_operator_who_goes_away_leaves_no_challenge_behind(line: Path, broker_port: int, camera: HandCamera) -> None:
    """Ctrl-C goes the same way as SIGTERM, but may be ignored where the tests are started from."""
    with Service(line) as service, Tap(broker_port, ROOT) as tap:
        camera.wait_connected()
        wait_for_state(tap, "READY", "no challenge yet")
        with led(line) as leading:
            wait_for_state(tap, "CHALLENGE")
            assert leading.stdout is not None
            while not leading.stdout.readline().startswith("challenge by Anna"):
                pass
            leading.send_signal(signal.SIGTERM)
            leading.communicate(timeout=60)
        assert leading.returncode == 143
        wait_for_state(tap, "READY", "failed: abandoned (by Anna)")
        service.stop()


def test_nobody_is_led_where_no_line_runs(line: Path) -> None:
    with led(line) as leading:
        _, errors = leading.communicate(timeout=60)
    assert leading.returncode == 1
    assert "is the line running? (lineside run)" in errors


def test_one_that_was_left_behind_is_ended_by_command(line: Path, broker_port: int, camera: HandCamera) -> None:
    with Service(line) as service, Tap(broker_port, ROOT) as tap, Operator(broker_port, ROOT, tap) as operator:
        camera.wait_connected()
        wait_for_state(tap, "READY", "no challenge yet")
        begin(operator, tap, "Bert")
        with led(line) as leading:
            assert "refused: a challenge is under way" in leading.communicate(timeout=60)[1]
        assert leading.returncode == 1
        wait_for_state(tap, "CHALLENGE")
        with led(line, "--abandon") as leading:
            assert leading.communicate(timeout=60)[0] == "the challenge by Bert is abandoned, which counts as failed\n"
        assert leading.returncode == 0
        wait_for_state(tap, "READY", "by Bert failed: abandoned (by Anna)")
        service.stop()

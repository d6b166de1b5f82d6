"""Line rules, line clearance and the trend of the times, in the running service."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

import psutil
import yaml

from pipeline.clock import NS_PER_MS, NS_PER_S, now_ns
from tests.chaos.books import check_record, read_rows
from tests.hand_camera import HandCamera, judge
from tests.operator_terminal import Operator
from tests.service import Service, workers_of, write_images, write_line
from tests.tap import Tap

ROOT = "test/line"
GOOD, BAD = 40, 200


def wait_for_moment(moment_ns: int) -> None:
    """For what happens when a time is up."""
    time.sleep(max(0, moment_ns - now_ns()) / NS_PER_S)


PASS, REJECT, IDLE = ("PASS", "OK"), ("REJECT", "DEFECT"), ("NO_DECISION", "NOT_RUNNING")


def test_consecutive_rejects_stop_the_line(tmp_path: Path, tmp_socket_dir: Path, broker_port: int) -> None:
    """The count and the halt outlive signalling; resume begins the count anew."""
    with HandCamera(tmp_socket_dir) as camera:
        rules = {"consecutive_rejects": {"count": 3, "action": "stop"}}
        line = write_line(tmp_path, broker_port, cameras=[camera.config], line_rules=rules)
        with (
            Service(line) as service,
            Tap(broker_port, ROOT) as tap,
            Operator(broker_port, ROOT, tap) as operator,
        ):
            camera.wait_connected()
            service.wait_for("RUNNING")
            assert judge(camera, tap, BAD, BAD, GOOD, BAD, BAD) == [REJECT, REJECT, PASS, REJECT, REJECT]
            assert tap.bodies("state")[-1]["state"] == "RUNNING"
            workers_of(service.process.pid)["signalling"].send_signal(signal.SIGKILL)
            service.wait_for("RUNNING")
            # The third in a row, the first of them known only from the ledger.
            assert judge(camera, tap, BAD, BAD, GOOD) == [REJECT, IDLE, IDLE]
            service.wait_for("HALTED line rule line-consecutive-rejects: 3 parts rejected in a row, up to part 6")
            tap.wait_until(lambda: tap.bodies("state")[-1]["state"] == "HALTED")
            workers_of(service.process.pid)["signalling"].send_signal(signal.SIGKILL)
            service.wait_for("HALTED line rule line-consecutive-rejects")
            # A halt does not wait for the broker: the third life's first words there, after two wills.
            tap.wait_until(lambda: [body["state"] for body in tap.bodies("state")].count("OFFLINE") == 2)
            tap.wait_until(lambda: tap.bodies("state")[-1]["state"] == "HALTED")
            assert judge(camera, tap, GOOD) == [IDLE]
            tap.wait_until(lambda: tap.bodies("alarm/line-consecutive-rejects")[-1:] not in ([], [None]))
            assert operator.ask("resume")["ok"]
            service.wait_for("RUNNING")
            tap.wait_until(lambda: tap.bodies("alarm/line-consecutive-rejects")[-1] is None)
            # What was counted before the resume is forgotten, by a successor too.
            workers_of(service.process.pid)["signalling"].send_signal(signal.SIGKILL)
            service.wait_for("RUNNING")
            assert judge(camera, tap, BAD, BAD, GOOD) == [REJECT, REJECT, PASS]
            service.stop()
    check_record(read_rows(tmp_path / "records.db"))


def test_a_stop_leaves_no_part_under_way(tmp_path: Path, tmp_socket_dir: Path, broker_port: int) -> None:
    """Parts that were triggered before the stop and not decided yet are not passed after it."""
    with HandCamera(tmp_socket_dir) as camera:
        line = write_line(tmp_path, broker_port, cameras=[camera.config], timing={"deadline_us": 1_900_000})
        with (
            Service(line) as service,
            Tap(broker_port, ROOT) as tap,
            Operator(broker_port, ROOT, tap) as operator,
        ):
            camera.wait_connected()
            service.wait_for("RUNNING")
            inspection = workers_of(service.process.pid)["inspection"]
            inspection.send_signal(signal.SIGSTOP)
            for _ in range(5):
                camera.part(GOOD)
            tap.wait_until(lambda: tap.bodies("heartbeat")[-1]["open_parts"] == 5)
            assert operator.ask("halt")["ok"]
            tap.wait_until(lambda: len(tap.bodies("verdict")) == 5)
            inspection.send_signal(signal.SIGCONT)
            assert {(body["verdict"], body["reason"]) for body in tap.bodies("verdict")} == {IDLE}
            service.stop()


def test_a_part_that_halts_the_line_halts_the_one_behind_it(
    tmp_path: Path, tmp_socket_dir: Path, broker_port: int
) -> None:
    """Also where the inspection of the second is read in the same turn in which the first has run out of time."""
    deadline_ms = 1_500
    with HandCamera(tmp_socket_dir) as camera:
        line = write_line(
            tmp_path,
            broker_port,
            cameras=[camera.config],
            timing={"deadline_us": deadline_ms * 1_000},
            line_rules={"consecutive_no_decisions": {"count": 1, "action": "stop"}},
        )
        with Service(line) as service, Tap(broker_port, ROOT) as tap:
            camera.wait_connected()
            service.wait_for("RUNNING")
            signalling, inspection = (workers_of(service.process.pid)[role] for role in ("signalling", "inspection"))
            inspection.send_signal(signal.SIGSTOP)
            first = camera.trigger()
            wait_for_moment(first.trigger_ns + deadline_ms * NS_PER_MS // 2)
            camera.part(GOOD)
            tap.wait_until(lambda: tap.bodies("heartbeat")[-1]["open_parts"] == 2)
            signalling.send_signal(signal.SIGSTOP)
            inspection.send_signal(signal.SIGCONT)
            wait_for_moment(first.trigger_ns + deadline_ms * NS_PER_MS)
            signalling.send_signal(signal.SIGCONT)
            tap.wait_until(lambda: len(tap.bodies("verdict")) == 2)
            said = [(body["part_id"], body["verdict"], body["reason"]) for body in tap.bodies("verdict")]
            assert said[0][:2] == (1, "NO_DECISION")
            assert said[1] == (2, *IDLE)
            tap.wait_until(lambda: tap.bodies("state")[-1]["state"] == "HALTED")
            service.stop()


def test_alarms_are_raised_and_taken_back(tmp_path: Path, tmp_socket_dir: Path, broker_port: int) -> None:
    with HandCamera(tmp_socket_dir) as camera:
        rules = {
            "consecutive_rejects": {"count": 3},
            "reject_rate": {"window_parts": 10, "max_share": 0.4, "min_share": 0.1},
            "consecutive_no_decisions": {"count": 2, "action": "alarm"},
        }
        line = write_line(tmp_path, broker_port, cameras=[camera.config], line_rules=rules)
        with Service(line) as service, Tap(broker_port, ROOT) as tap:
            camera.wait_connected()
            service.wait_for("RUNNING")

            def texts(code: str) -> list[str | None]:
                return [body and body["text"] for body in tap.bodies(f"alarm/line-{code}")]

            judge(camera, tap, BAD, BAD, BAD, BAD, BAD)
            tap.wait_until(lambda: len(texts("consecutive-rejects")) == 1 and len(texts("reject-rate")) == 1)
            assert texts("consecutive-rejects") == ["3 parts rejected in a row, up to part 3"]
            assert "5 of the last 5 judged parts" in str(texts("reject-rate")[0])
            judge(camera, tap, GOOD, GOOD, BAD, GOOD, GOOD)
            assert texts("consecutive-rejects")[1:] == []
            judge(camera, tap, GOOD)
            tap.wait_until(lambda: texts("consecutive-rejects")[1:] == [None])
            # Step by step: what changes twice before it could be told is told once.
            judge(camera, tap, *[GOOD] * 3)
            tap.wait_until(lambda: texts("reject-rate")[1:] == [None])
            judge(camera, tap, *[GOOD] * 9)
            tap.wait_until(lambda: len(texts("reject-rate")) == 3)
            assert "less than 0.1" in str(texts("reject-rate")[2])
            assert tap.bodies("state")[-1]["state"] == "RUNNING"
            inspection = workers_of(service.process.pid)["inspection"]
            inspection.send_signal(signal.SIGSTOP)
            assert judge(camera, tap, GOOD, GOOD) == [("NO_DECISION", "DEADLINE")] * 2
            inspection.send_signal(signal.SIGCONT)
            tap.wait_until(lambda: len(texts("consecutive-no-decisions")) == 1)
            judge(camera, tap, GOOD, GOOD)
            tap.wait_until(lambda: texts("consecutive-no-decisions")[1:] == [None])
            service.stop()


def test_line_clearance_at_each_start(tmp_path: Path, broker_port: int) -> None:
    line = write_line(tmp_path, broker_port, line_clearance="always")
    with (
        Service(line) as service,
        Tap(broker_port, ROOT) as tap,
        Operator(broker_port, ROOT, tap) as operator,
    ):
        service.wait_for("READY line clearance: at each start")
        tap.wait_count("verdict", 10)
        workers_of(service.process.pid)["signalling"].send_signal(signal.SIGKILL)
        service.wait_for("READY line clearance: at each start")
        assert {body["reason"] for body in tap.bodies("verdict")} == {"NOT_RUNNING"}
        reply = operator.ask("confirm_line_clear", who="Dora")
        assert (reply["ok"], reply["text"]) == (True, "line clearance confirmed by Dora")
        service.wait_for("RUNNING")
        tap.wait_until(lambda: tap.bodies("verdict")[-1]["verdict"] == "PASS")
        for role in ("signalling", "records", "inspection"):
            workers_of(service.process.pid)[role].send_signal(signal.SIGKILL)
            service.wait_for("RUNNING")
        service.stop()
    assert "cmd/confirm_line_clear by Dora" in service.errors


def test_line_clearance_at_a_changeover(tmp_path: Path, broker_port: int) -> None:
    def starts(words: str, *, confirm: bool) -> None:
        with (
            Service(line) as service,
            Tap(broker_port, ROOT) as tap,
            Operator(broker_port, ROOT, tap) as operator,
        ):
            service.wait_for(words)
            tap.wait_count("verdict", 5)
            if confirm:
                assert operator.ask("confirm_line_clear")["ok"]
                service.wait_for("RUNNING")
            if confirm or words == "RUNNING":
                tap.wait_until(lambda: any(body["verdict"] == "PASS" for body in tap.bodies("verdict")))
            service.stop()

    line = write_line(tmp_path, broker_port, line_clearance="changeover")
    starts("READY line clearance: this is stub 1 with model", confirm=True)
    starts("RUNNING", confirm=False)
    recipe = yaml.safe_load((tmp_path / "recipe.yaml").read_text())
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({**recipe, "recipe_version": "2"}))
    starts("READY line clearance: this is stub 2 with model", confirm=False)
    # Parts that passed by while it waited do not make it the product that was made last.
    starts("READY line clearance: this is stub 2 with model", confirm=True)
    starts("RUNNING", confirm=False)


def test_slowing_down_is_told_before_parts_run_out_of_time(
    tmp_path: Path, tmp_socket_dir: Path, broker_port: int
) -> None:
    """Inspection is held up a little longer at each part, as by a processor that gets hotter."""
    timing = {"deadline_us": 400_000, "guard_us": 5_000, "budget_us": 60_000}
    degraded = {"window_parts": 20, "over_budget_share": 0.2, "headroom_used": 0.6}
    early = [f"{ROOT}/alarm/{code}" for code in ("over-budget", "low-headroom")]
    with HandCamera(tmp_socket_dir) as camera:
        line = write_line(tmp_path, broker_port, cameras=[camera.config], timing=timing, degraded=degraded)
        with Service(line) as service, Tap(broker_port, ROOT) as tap:
            camera.wait_connected()
            service.wait_for("RUNNING")
            inspection = workers_of(service.process.pid)["inspection"]

            def slowed_by(hold_ms: int) -> tuple[str, str]:
                before = len(tap.bodies("verdict"))
                inspection.send_signal(signal.SIGSTOP)
                camera.part(GOOD)
                release_ns = now_ns() + hold_ms * NS_PER_MS
                while now_ns() < release_ns:
                    time.sleep(0.001)  # makes the fault itself; nothing is assumed to be done by then
                inspection.send_signal(signal.SIGCONT)
                tap.wait_until(lambda: len(tap.bodies("verdict")) > before)
                body: dict[str, Any] = tap.bodies("verdict")[before]
                return body["verdict"], body["reason"]

            for _ in range(20):
                assert slowed_by(0) == PASS
            assert tap.bodies("alarm/over-budget") == []
            hold_ms, late_ms = 0, 395
            while not tap.bodies("alarm/low-headroom"):
                slowed_by(hold_ms)
                hold_ms += 8
                assert hold_ms < late_ms, "parts that are held up so long are told of too late"
            warnings = [heard.topic.rpartition("/")[2] for heard in tap.heard if heard.topic in early]
            assert warnings == ["over-budget", "low-headroom"]
            assert slowed_by(late_ms) == ("NO_DECISION", "DEADLINE")
            assert tap.bodies("alarm/over-budget")[0]["severity"] == "warning"
            for _ in range(40):
                slowed_by(0)
            for code in ("over-budget", "low-headroom"):
                tap.wait_until(lambda code=code: tap.bodies(f"alarm/{code}")[-1] is None)  # type: ignore[misc]
            service.stop()


def test_rates_by_the_folder_too(tmp_path: Path, broker_port: int) -> None:
    """A folder camera's pictures, at the line's own pace: every second one is defective."""
    write_images(tmp_path / "images", [GOOD, BAD])
    rules = {"reject_rate": {"window_parts": 20, "max_share": 0.3, "action": "stop"}}
    with Service(write_line(tmp_path, broker_port, line_rules=rules)) as service, Tap(broker_port, ROOT) as tap:
        service.wait_for("HALTED line rule line-reject-rate: 7 of the last")
        tap.wait_count("verdict", 5)
        assert tap.bodies("verdict")[-1]["reason"] == "NOT_RUNNING"
        summary = service.stop()
    assert summary["rejected"] == 7


def test_a_halt_outlives_a_kill_of_everything_with_the_supervisor_standing_still(
    tmp_path: Path, tmp_socket_dir: Path, broker_port: int
) -> None:
    """The supervisor hands a halt on to records, who keeps it on disk: neither has to live for it."""
    with HandCamera(tmp_socket_dir) as camera:
        rules = {"consecutive_rejects": {"count": 2, "action": "stop"}}
        line = write_line(tmp_path, broker_port, cameras=[camera.config], line_rules=rules)
        with Service(line) as service, Tap(broker_port, ROOT) as tap:
            camera.wait_connected()
            service.wait_for("RUNNING")
            workers = workers_of(service.process.pid)
            psutil.Process(service.process.pid).suspend()
            assert judge(camera, tap, BAD, BAD) == [REJECT, REJECT]
            tap.wait_until(lambda: tap.bodies("state")[-1]["state"] == "HALTED")
            service.process.kill()
            for worker in workers.values():
                worker.kill()
            service.process.wait()
            assert not (tmp_path / "records.db.halt").exists()
            with Service(line) as successor:
                camera.wait_connected()
                successor.wait_for("HALTED line rule line-consecutive-rejects")
                successor.stop()
        assert (tmp_path / "records.db.halt").exists()

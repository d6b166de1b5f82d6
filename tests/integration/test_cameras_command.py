"""Cameras found, shown and tried by the command, against a camera that speaks the real protocol."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import yaml

from pipeline.cameras import CAMERAS
from pipeline.cameras.aravis import Aravis
from pipeline.cameras.aravis_library import AravisMissing, library
from pipeline.cameras.finding import FINDERS, FoundCamera
from pipeline.cli.cameras import grabbing
from pipeline.record.lock import lock_record
from pipeline.simulator.namespace import NamespaceUnavailable, NetworkNamespace
from tests.gige_vision.camera import GigEVisionCamera, SentFrame, pattern
from tests.gige_vision.control import CONTROL, EXCLUSIVE
from tests.gige_vision.loopback import loopback_address
from tests.gige_vision.registers import REGISTERS_END
from tests.gige_vision.stream import Fault
from tests.hand_camera import HandCamera
from tests.in_process import Done, lineside_here
from tests.service import Service, write_images, write_line
from tests.waiting import PATIENCE_S, wait_until

SIZE_PX = 32
PATIENT = {"packet_timeout_us": 100_000, "frame_retention_us": 500_000}
"""What the test's own process is held up by is no loss."""


@pytest.fixture
def device() -> Iterator[GigEVisionCamera]:
    """A camera in this process."""
    try:
        library()
    except AravisMissing as error:
        pytest.skip(str(error))
    with GigEVisionCamera(loopback_address(), width_px=SIZE_PX, height_px=SIZE_PX) as made:
        yield made
        for thread in threading.enumerate():
            if thread.name.startswith("aravis-"):
                thread.join(PATIENCE_S)


@dataclass(frozen=True, slots=True)
class Station:
    """A line of one camera, and where the results go."""

    line: Path

    @property
    def picture_file(self) -> Path:
        return self.line.parent / "picture.png"

    def grab(self, *more: str | Path) -> tuple[Done, dict[str, Any]]:
        """What was said, and the result, empty where there is none."""
        result = self.line.parent / "result.json"
        result.unlink(missing_ok=True)
        done = lineside_here("cameras", "grab", self.line, "--out", self.picture_file, "--json", result, *more)
        return done, json.loads(result.read_text()) if result.exists() else {}

    def show(self, *more: str | Path) -> tuple[Done, dict[str, Any]]:
        return show(self.line, *more)

    @property
    def picture(self) -> npt.NDArray[np.uint8]:
        pixels = cv2.imread(str(self.picture_file), cv2.IMREAD_UNCHANGED)
        assert pixels is not None
        return np.asarray(pixels, np.uint8)


def show(*arguments: str | Path) -> tuple[Done, dict[str, Any]]:
    done = lineside_here("cameras", "show", *arguments, "--json", "-")
    return done, json.loads(done.stdout) if done.stdout else {}


def station_of(at: Path, port: int = 1, /, **camera: Any) -> Station:
    config = {"camera_id": "cam0", "width_px": SIZE_PX, "height_px": SIZE_PX, "pixel_format": "Mono8", **camera}
    return Station(write_line(at, port, cameras=[config]))


Made = Callable[..., Station]


@pytest.fixture
def gige(device: GigEVisionCamera, tmp_path: Path) -> Made:
    """A station with the camera, free running at 100 frames/s unless told otherwise."""

    def made(port: int = 1, **changes: Any) -> Station:
        free: dict[str, Any] = (
            {} if changes.get("trigger", "free_running") != "free_running" else {"frame_rate_hz": 100}
        )
        if changes.get("trigger") == "software":
            free = {"trigger_notices": {"pitch_us": 50_000}}
        keys = {"kind": "aravis", "address": device.address, "trigger": "free_running", **free, **PATIENT, **changes}
        return station_of(tmp_path, port, **keys)

    return made


def test_grab_writes_the_last_frame_and_tells_rate_and_losses(device: GigEVisionCamera, gige: Made) -> None:
    station = gige()
    done, result = station.grab("--frames", "30")
    assert done.returncode == 0, done.stderr
    assert result["frames"] == result["triggers"] == 30
    assert (result["frames_refused"], result["frames_bad"], result["frames_missed"]) == (0, 0, 0)
    sent = [each.exposed_ns for each in device.sent][:30]
    assert result["rate_hz"] == pytest.approx(29e9 / (sent[-1] - sent[0]), rel=0.02)
    assert result["exposure_ns"][0] == pytest.approx(sent[0], abs=50e6)
    assert len(result["jitter_us"]) == len(result["to_memory_us"]) == 3
    expected = np.frombuffer(pattern(29, SIZE_PX * SIZE_PX), np.uint8).reshape(SIZE_PX, SIZE_PX)
    assert (station.picture == expected).all()
    for word in ("rate", "losses", "jitter", "to memory", str(station.picture_file)):
        assert word in done.stdout
    assert not device.is_acquiring


def test_frames_that_lost_packets_are_counted_with_the_reason(device: GigEVisionCamera, gige: Made) -> None:
    device.link.add(Fault("lose", part="payload", after=2, frames=3, resent=True))
    device.link.add(Fault("lose", part="frame", after=8, frames=2, resent=True))
    done, result = gige(packet_resend=False, frame_retention_us=20_000).grab("--frames", "20")
    assert done.returncode == 0
    assert result["frames"] == 20
    assert result["frames_bad"] >= 3
    assert result["frames_missed"] >= 2
    assert "packets" in next(iter(result["bad"]))
    assert any("MTU of 9000" in hint for hint in result["hints"])
    assert "look at" in done.stdout


def test_frames_that_are_all_bad_are_not_said_to_stay_away(device: GigEVisionCamera, gige: Made) -> None:
    device.cut_short = 0.5
    done, result = gige().grab("--duration", "1")
    assert done.returncode == 1
    assert result["frames_bad"] > 0
    assert "no whole frame came" in done.stderr
    assert not any("no frame came" in hint for hint in result["hints"])


def test_a_trigger_that_never_comes_is_told_and_waited_for(
    device: GigEVisionCamera, gige: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grabbing, "SILENT_S", 0.3)
    station = gige(trigger="hardware")
    done, result = station.grab("--duration", "1")
    assert done.returncode == 1
    assert done.stderr.count("no frame came in 0.3 s: trigger: hardware on Line1") == 1
    assert "camera cam0: no frame came in 1" in done.stderr
    assert result["frames"] == 0
    assert result["picture"] is None
    assert not station.picture_file.exists()


def test_without_a_duration_it_gives_up_and_tells_what_came(
    device: GigEVisionCamera, gige: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grabbing, "GIVE_UP_S", 0.5)

    def pull() -> None:
        wait_until(lambda: device.waits_for_trigger)
        device.trigger()

    pulling = threading.Thread(target=pull)
    pulling.start()
    station = gige(trigger="hardware")
    done, result = station.grab("--frames", "5")
    pulling.join()
    assert done.returncode == 1
    assert "1 frames of 5" in done.stderr
    assert result["frames"] == 1
    assert station.picture_file.exists()


def test_ctrl_c_ends_with_what_was_had(device: GigEVisionCamera, gige: Made) -> None:
    station = gige(trigger="hardware")
    arguments = ["cameras", "grab", str(station.line), "--out", str(station.picture_file)]
    command = [sys.executable, "-m", "pipeline.cli", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            for number in range(3):
                wait_until(lambda: device.waits_for_trigger)
                device.trigger()
                wait_until(lambda number=number: len(device.sent) > number)  # type: ignore[misc]
            assert process.stderr is not None
            assert "no frame came in 5 s" in process.stderr.readline()
            process.send_signal(signal.SIGINT)
            said, errors = process.communicate(timeout=PATIENCE_S)
        finally:
            process.kill()
    assert process.returncode == 0, errors
    assert "frames    3" in said
    assert station.picture_file.exists()


def test_a_camera_that_goes_away_is_told_with_what_came_before(device: GigEVisionCamera, gige: Made) -> None:
    station = gige(frame_timeout_s=60)

    def cut(frame: SentFrame) -> None:
        if frame.number == 9:
            device.power_off()

    device._on_frame = cut
    done, result = station.grab("--frames", "1000")
    assert done.returncode == 1
    assert f"camera cam0: {device.address} no longer answers" in done.stderr
    assert result["frames"] == 10
    assert device.address in result["lost"]
    assert station.picture_file.exists()


def test_software_triggers_are_given_at_the_rate_asked_for(
    gige: Made,
) -> None:
    done, result = gige(trigger="software", exposure_time_us=500).grab("--frames", "10", "--rate", "20")
    assert done.returncode == 0, done.stderr
    assert result["frames"] == 10
    assert result["software_triggers"] == {"fired": 10, "not_ready": 0, "unanswered": 0}
    assert result["interval_us"]["min"] > 0
    # Never faster than asked for, but a busy box may be slower.
    assert result["rate_hz"] < 25


def test_the_last_software_triggers_frame_is_waited_for(gige: Made) -> None:
    """The third is given 50 ms before the end and exposed for twice as long."""
    done, result = gige(trigger="software", exposure_time_us=100_000).grab("--duration", "0.45", "--rate", "5")
    assert done.returncode == 0, done.stderr
    assert result["software_triggers"]["unanswered"] == 0
    assert result["frames"] == result["software_triggers"]["fired"] - result["software_triggers"]["not_ready"]


def test_a_software_trigger_that_brings_nothing_is_missed(
    device: GigEVisionCamera, gige: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Half(Aravis):
        shots = 0

        def fire(self) -> bool:
            self.shots += 1
            return self.shots % 2 == 0 or super().fire()

    monkeypatch.setitem(CAMERAS, "aravis", Half)
    monkeypatch.setattr(grabbing, "_LAST_FRAMES_NS", 300_000_000)
    done, result = gige(trigger="software", exposure_time_us=500).grab("--frames", "6", "--rate", "20")
    assert done.returncode == 1
    assert result["software_triggers"]["unanswered"] == 3
    assert "3 frames of 6 software triggers" in done.stderr


def test_a_driver_without_software_triggers_says_so(gige: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CAMERAS, "aravis", lambda config: object())
    done, _ = gige(trigger="software").grab()
    assert done.returncode == 1
    assert "gives no software triggers" in done.stderr


@pytest.mark.parametrize("command", ["grab", "show"])
def test_a_camera_in_use_is_left_alone(device: GigEVisionCamera, gige: Made, command: str) -> None:
    device.hold_elsewhere(CONTROL)
    before = device.control.privilege
    done, _ = getattr(gige(), command)()
    assert done.returncode == 1
    assert f"camera cam0: {device.address} is in use by another program" in done.stderr
    assert device.control.privilege == before


@pytest.mark.parametrize("command", ["grab", "show"])
def test_a_line_that_runs_keeps_its_cameras(device: GigEVisionCamera, gige: Made, command: str) -> None:
    station = gige()
    lock = lock_record(station.line.parent / "records.db")
    try:
        done, _ = getattr(station, command)()
    finally:
        os.close(lock)
    assert done.returncode == 1
    assert "the line is running" in done.stderr
    done, _ = getattr(station, command)()
    assert done.returncode == 0, done.stderr


def test_a_running_service_is_not_disturbed(device: GigEVisionCamera, gige: Made, broker_port: int) -> None:
    station = gige(broker_port)
    with Service(station.line) as service:
        service.wait_for("RUNNING")
        controller, first = device.control.controller, len(device.sent)
        done, _ = station.grab()
        assert done.returncode == 1
        assert "the line is running" in done.stderr
        done, result = show("--address", device.address)
        assert done.returncode == 0, done.stderr
        assert result["facts"]["in use"].startswith("by another program")
        wait_until(lambda: len(device.sent) > first + 20)
        assert device.control.controller == controller
        summary = service.stop()
    assert summary["passed"] + summary["rejected"] + summary["no_decision"] == summary["parts_triggered"] >= 20
    assert summary["reasons"].get("MISSED_FRAME", 0) == 0
    assert device.address not in service.errors


def test_trying_a_camera_makes_no_record(gige: Made) -> None:
    station = gige()
    assert station.show()[0].returncode == 0
    assert not list(station.line.parent.glob("records.db*"))


def test_show_sets_the_camera_up_and_says_by_what(device: GigEVisionCamera, gige: Made) -> None:
    done, result = gige(exposure_time_us=750, features={"Gain": 3.0}).show()
    assert done.returncode == 0, done.stderr
    features = result["features"]
    assert features["ExposureTime"]["value"] == 750
    assert features["ExposureTime"]["bounds"] == [10, 1_000_000]
    assert features["ExposureTime"]["set_by"] == "exposure_time_us"
    assert features["Gain"]["set_by"] == "features.Gain"
    assert features["Width"]["value"] == SIZE_PX
    assert features["DeviceSerialNumber"]["value"] == "LS0001"
    assert features["DeviceSerialNumber"]["set_by"] is None
    assert "BayerRG8" in features["PixelFormat"]["choices"]
    assert features["TriggerMode"]["value"] == "Off"
    assert features["GevSCPSPacketSize"]["value"] > 1500
    assert "CounterValue" not in features
    assert "packets" in result["facts"]
    assert "ExposureTime" in done.stderr
    assert device.control.privilege == 0


def test_show_all_has_every_feature(gige: Made) -> None:
    _, result = gige().show("--all")
    assert {"CounterValue", "EncoderValue", "TriggerSoftware", "ExposureTime"} <= set(result["features"])
    assert result["features"]["TriggerSoftware"]["kind"] == "command"


def test_every_mismatch_is_told(gige: Made) -> None:
    done, _ = gige(exposure_time_us=5e7, gain_db=90, features={"Gian": 1}).show()
    assert done.returncode == 1
    for words in ("exposure_time_us: got 50000000, expected 10 to 1000000", "gain_db: got 90", "Gian", "it has Gain"):
        assert words in done.stderr


@pytest.mark.parametrize("held", [0, CONTROL])
def test_a_look_at_an_address_changes_nothing(device: GigEVisionCamera, held: int) -> None:
    device.hold_elsewhere(held)
    registers = device.control.registers
    assert registers is not None
    before = registers.read(0, REGISTERS_END)
    done, result = show("--address", device.address, "--all")
    assert done.returncode == 0, done.stderr
    assert result["features"]["SensorWidth"]["value"] == 4096
    assert result["facts"]["in use"].startswith("by another program" if held else "no")
    assert registers.read(0, REGISTERS_END) == before


def test_a_camera_that_is_held_exclusively_or_off_is_told(device: GigEVisionCamera) -> None:
    device.hold_elsewhere(EXCLUSIVE)
    done, _ = show("--address", device.address)
    assert done.returncode == 1
    assert "in use by another program" in done.stderr
    device.release()
    device.power_off()
    done, _ = show("--address", device.address)
    assert done.returncode == 1
    assert f"no camera answers at {device.address}" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["show"], "got no camera, expected one of CONFIG, --address and --serial"),
        (["show", "--address", "127.0.0.1", "--serial", "1"], "got --address and --serial"),
        (["show", "--address", "camera.local"], "expected an IPv4 address"),
        (["show", "--serial", "1", "--kind", "folder"], "--kind: got folder, expected one of"),
        (["show", "--serial", "1", "--camera", "cam0"], "--camera-id: got cam0 with --serial"),
        (["list", "--kind", "folder"], "--kind: got folder, expected one of"),
        (["grab", "nowhere.yaml"], "nowhere.yaml: got No such file or directory"),
    ],
)
def test_bad_usage_is_told(arguments: Sequence[str], words: str) -> None:
    done = lineside_here("cameras", *arguments)
    assert done.returncode == 2
    assert words in done.stderr


@pytest.fixture
def folder(tmp_path: Path) -> Station:
    """Three grey pictures, played once."""
    write_images(tmp_path / "images", [40, 90, 200], size_px=SIZE_PX)
    keys = {"kind": "folder", "folder": "images", "parts_per_min": 6000, "loop": False}
    return station_of(tmp_path, **keys)


def test_a_folder_is_grabbed_to_its_end(folder: Station) -> None:
    done, result = folder.grab()
    assert done.returncode == 0, done.stderr
    assert result["frames"] == 3
    assert (folder.picture == 200).all()


@pytest.mark.parametrize("pixel_format", ["BGR8", "RGB8"])
def test_colours_are_kept(tmp_path: Path, pixel_format: str) -> None:
    (tmp_path / "images").mkdir()
    colours = np.random.default_rng(1).integers(0, 256, (SIZE_PX, SIZE_PX, 3), np.uint8)
    assert cv2.imwrite(str(tmp_path / "images" / "1.png"), colours)
    keys = {"kind": "folder", "folder": "images", "parts_per_min": 6000, "pixel_format": pixel_format}
    station = station_of(tmp_path, **keys)
    assert station.grab("--frames", "2")[0].returncode == 0
    assert (station.picture == colours).all()


def test_show_of_a_kind_without_features_opens_it(folder: Station) -> None:
    done, result = folder.show()
    assert done.returncode == 0, done.stderr
    assert "has none; it could be opened" in result["facts"]["features"]
    for file in (folder.line.parent / "images").iterdir():
        file.unlink()
    done, _ = folder.show()
    assert done.returncode == 2  # the configuration's own check
    assert "images" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--camera", "cam7"], "--camera-id: got cam7, expected one of the line's cameras: cam0"),
        (["--rate", "5"], "--rate: got 5, expected a camera with trigger: software"),
        (["--duration", "nan"], "--duration"),
        (["--frames", "0"], "--frames"),
        (["--out", "new.png", "--json", "new.png"], "--json: got new.png, expected another file than --out"),
        (["--out", "picture.jpg"], "expected a name that ends in .png"),
        (["--out", "no/such/folder.png"], "expected a file in an existing folder"),
        (["--out", "/proc/picture.png"], "expected a place that can be written"),
        (["--out", "{folder}/text.png"], "something other than a PNG"),
        (["--out", "{folder}/images/new.png"], "expected a place outside"),
    ],
)
def test_bad_usage_of_grab_is_told_before_the_camera_is_opened(
    folder: Station, arguments: Sequence[str], words: str
) -> None:
    (folder.line.parent / "text.png").write_text("mine")
    done = lineside_here(
        "cameras", "grab", folder.line, *(each.format(folder=folder.line.parent) for each in arguments)
    )
    assert done.returncode == 2
    assert words in done.stderr
    assert (folder.line.parent / "text.png").read_text() == "mine"


def test_only_a_png_is_replaced(folder: Station) -> None:
    write_images(folder.line.parent / "older", [1])
    (folder.line.parent / "older" / "000.png").rename(folder.picture_file)
    assert folder.grab()[0].returncode == 0
    assert (folder.picture == 200).all()
    assert not list(folder.line.parent.glob("*.new"))


def test_without_a_name_the_picture_is_called_as_the_camera(
    folder: Station, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert lineside_here("cameras", "grab", folder.line).returncode == 0
    assert (tmp_path / "cam0.png").exists()


def test_encoder_counts_of_the_line_simulator_are_told(tmp_socket_dir: Path) -> None:
    with HandCamera(tmp_socket_dir) as camera:

        def play() -> None:
            camera.wait_connected()
            for grey in (10, 20, 30):
                camera.part(grey)

        playing = threading.Thread(target=play)
        playing.start()
        station = station_of(tmp_socket_dir, **camera.config)
        done, result = station.grab("--frames", "3")
        playing.join()
    assert done.returncode == 0, done.stderr
    assert result["encoder_count"] == [1, 3]
    assert (station.picture == 30).all()


@pytest.fixture
def network() -> Iterator[NetworkNamespace]:
    """Where a broadcast reaches nobody else."""
    try:
        library()
        made = NetworkNamespace().start()
    except (AravisMissing, NamespaceUnavailable) as error:
        pytest.skip(str(error))
    try:
        yield made
    finally:
        made.stop()


def cameras_in(network: NetworkNamespace, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [*network.command_prefix, sys.executable, "-m", "pipeline.cli", "cameras", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)


def set_up(network: NetworkNamespace, *commands: str) -> None:
    if shutil.which("ip") is None:
        pytest.skip("ip is not installed (apt-get install iproute2)")
    for command in commands:
        subprocess.run([*network.command_prefix, "ip", *command.split()], check=True)


def test_list_finds_cameras_by_broadcast_and_says_how_to_write_them(network: NetworkNamespace) -> None:
    module = [sys.executable, "-m", "tests.gige_vision_camera", "--address", "127.1.2.3", "--serial", "0815"]
    with subprocess.Popen(
        [*network.command_prefix, *module], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as camera:
        try:
            assert camera.stdout is not None
            assert "ready" in camera.stdout.readline()
            listing = ("list", "--kind", "aravis")
            done, told = cameras_in(network, *listing), json.loads(cameras_in(network, *listing, "--json", "-").stdout)
            shown = cameras_in(network, "show", "--serial", "0815")
            another = cameras_in(network, "show", "--serial", "0816")
        finally:
            camera.communicate()
    assert done.returncode == 0, done.stderr
    assert told["cameras"] == [
        {
            "kind": "aravis",
            "vendor": "Lineside",
            "model": "Test camera",
            "serial": "0815",
            "address": "127.1.2.3",
            "keys": {"address": "127.1.2.3"},
        }
    ]
    (written,) = [yaml.safe_load(line) for line in done.stdout.splitlines() if line.lstrip().startswith("- {")]
    assert written[0]["kind"] == "aravis"
    assert written[0]["address"] == "127.1.2.3"
    assert shown.returncode == 0, shown.stderr
    assert "Test camera" in shown.stdout
    assert another.returncode == 1
    assert "no camera with serial 0816 was found, but 0815 (Test camera at 127.1.2.3)" in another.stderr


def test_where_nothing_answers_list_says_what_to_look_at(network: NetworkNamespace) -> None:
    set_up(
        network,
        "link add here type veth peer name there",
        "address add 192.168.7.1/24 dev here",
        "link set here up",
        "link set there up",
    )
    done = cameras_in(network, "list", "--kind", "aravis")
    assert done.returncode == 1
    assert "no camera was found" in done.stderr
    for word in ("power", "here 192.168.7.1/24", "there has no IPv4 address", "subnet"):
        assert word in done.stdout


def test_an_address_that_no_interface_reaches_is_told(network: NetworkNamespace) -> None:
    set_up(
        network,
        "link add here type veth peer name there",
        "address add 192.168.7.1/24 dev here",
        "address add 192.168.8.1/24 dev here",
        "link set here up",
        "link set there up",
        "route add default via 192.168.7.2",
    )
    for address in ("192.168.7.9", "192.168.8.9"):
        near = cameras_in(network, "show", "--address", address)
        assert near.returncode == 1
        assert "subnet" not in near.stderr
    far = cameras_in(network, "show", "--address", "192.168.9.9")
    assert far.returncode == 1
    assert "192.168.9.9 is in no subnet of this box (" in far.stderr
    assert "here 192.168.7.1/24" in far.stderr


def test_a_missing_sdk_is_named_and_the_others_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> Sequence[FoundCamera]:
        raise ImportError("libfoo is not installed: apt-get install libfoo")

    def one() -> Sequence[FoundCamera]:
        return [FoundCamera("other", "Evil\x1b[2J", "M", "007", "USB0", {"serial": "007"})]

    for kind in list(FINDERS):
        monkeypatch.delitem(FINDERS, kind)
    monkeypatch.setitem(FINDERS, "foo", missing)
    done = lineside_here("cameras", "list")
    assert done.returncode == 1
    assert "not looked for: foo: libfoo is not installed: apt-get install libfoo" in done.stdout
    assert "power" not in done.stdout
    monkeypatch.setitem(FINDERS, "other", one)
    done = lineside_here("cameras", "list")
    assert done.returncode == 0
    assert "apt-get install libfoo" in done.stdout
    assert "007" in done.stdout
    assert "\x1b" not in done.stdout
    (written,) = [yaml.safe_load(line) for line in done.stdout.splitlines() if line.lstrip().startswith("- {")]
    assert written[0]["serial"] == "007"
    assert lineside_here("cameras", "list", "--kind", "foo").returncode == 1

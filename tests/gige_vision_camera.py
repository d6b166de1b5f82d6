"""The camera of the tests as a program, for a network namespace of its own: one command a line in, one answer a line out.

`ready ADDRESS` is said when it answers. Each command is answered by `ok`, `ok JSON` or `error WORDS`; with its
input it ends.

    trigger [encoder=N] [picture=FILE]    a rising edge at Line1
    rate HZ                               frames per second when it runs free
    encoder N                             what the encoder input counts now
    drift PPM                             its clock's pace from now on
    fault ACTION [part=P] [packets=N,N] [after=N] [frames=N] [share=X] [resent=yes] [by=N]
                                          lose, double or delay packets: see tests.gige_vision.stream.Fault
    mend                                  no more faults
    freeze | thaw                         hang, go on
    off | on                              power
    hold [exclusive] | release            another program has it
    resend on|off                         whether lost packets are sent again
    speed BITS_PER_S|none                 pace of the link
    mtu BYTES|none                        longer packets are lost
    block N                               block id of the first frame after each start
    pictures FOLDER                       files of raw bytes, by name, again and again
    state                                 counters, as JSON
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import TextIO

from tests.gige_vision.camera import GigEVisionCamera, Pictures, SentFrame
from tests.gige_vision.control import CONTROL, EXCLUSIVE
from tests.gige_vision.genicam import PIXEL_FORMATS, Sensor
from tests.gige_vision.stream import Fault

Words = Sequence[str]


def folder_pictures(folder: Path) -> Pictures:
    """The files of a folder by name, again and again: each holds the raw bytes of one frame.

    Raises:
        ValueError: There are none.
    """
    files = [path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()]
    if not files:
        raise ValueError(f"{folder}: no files, expected raw bytes of frames")
    return lambda number: files[number % len(files)]


def fault_of(words: Words) -> Fault:
    """`lose part=payload packets=3,4 frames=2` as a fault.

    Raises:
        ValueError: An unknown action, part or name.
    """
    action, *rest = words
    given = _named(rest)
    if action not in ("lose", "double", "delay"):
        raise ValueError(f"got {action}, expected lose, double or delay")
    part = given.pop("part", "payload")
    if part not in ("leader", "payload", "trailer", "frame"):
        raise ValueError(f"part: got {part}, expected leader, payload, trailer or frame")
    packets = given.pop("packets", None)
    frames = given.pop("frames", None)
    fault = Fault(
        action=action,  # type: ignore[arg-type]
        part=part,  # type: ignore[arg-type]
        packets=None if packets is None else frozenset(map(int, packets.split(","))),
        after=int(given.pop("after", 0)),
        frames=None if frames is None else int(frames),
        share=float(given.pop("share", 1.0)),
        resent=given.pop("resent", "no") == "yes",
        by=int(given.pop("by", 1)),
    )
    if given:
        raise ValueError(f"unknown: {' '.join(given)}")
    return fault


def _named(words: Words) -> dict[str, str]:
    pairs = [word.partition("=") for word in words]
    if any(not equals for _, equals, _ in pairs):
        raise ValueError(f"got {' '.join(words)}, expected NAME=VALUE")
    return {name: value for name, _, value in pairs}


def _number(word: str) -> float | None:
    return None if word == "none" else float(word)


class Commands:
    """Carries out lines of text on a camera."""

    def __init__(self, camera: GigEVisionCamera) -> None:
        self._camera = camera
        self._known: dict[str, Callable[[Words], object]] = {
            "trigger": self._trigger,
            "rate": lambda words: camera.set_rate(float(words[0])),
            "encoder": lambda words: camera.set_encoder(int(words[0])),
            "drift": lambda words: camera.set_drift(float(words[0])),
            "fault": lambda words: camera.link.add(fault_of(words)),
            "mend": lambda _: camera.link.mend(),
            "freeze": lambda _: camera.freeze(),
            "thaw": lambda _: camera.thaw(),
            "off": lambda _: camera.power_off(),
            "on": lambda _: camera.power_on(),
            "hold": lambda words: camera.hold_elsewhere(EXCLUSIVE if words == ["exclusive"] else CONTROL),
            "release": lambda _: camera.release(),
            "resend": lambda words: camera.set_resend({"on": True, "off": False}[words[0]]),
            "speed": self._speed,
            "mtu": self._mtu,
            "block": self._block,
            "pictures": self._pictures,
            "state": lambda _: camera.state(),
        }

    def carry_out(self, line: str) -> str:
        """One line in, its answer out."""
        name, *words = line.split()
        if name not in self._known:
            return f"error unknown command {name}, expected one of {' '.join(self._known)}"
        try:
            answer = self._known[name](words)
        except (ValueError, LookupError, OSError) as error:
            return f"error {name}: {error}"
        return "ok" if answer is None else f"ok {json.dumps(answer)}"

    def _trigger(self, words: Words) -> int:
        given = _named(words)
        encoder, picture = given.get("encoder"), given.get("picture")
        return self._camera.trigger(
            None if encoder is None else int(encoder), None if picture is None else Path(picture).read_bytes()
        )

    def _speed(self, words: Words) -> None:
        self._camera.link.speed_bits_per_s = _number(words[0])

    def _mtu(self, words: Words) -> None:
        given = _number(words[0])
        self._camera.link.mtu_bytes = None if given is None else int(given)

    def _block(self, words: Words) -> None:
        self._camera.first_block_id = int(words[0])

    def _pictures(self, words: Words) -> None:
        self._camera.pictures = folder_pictures(Path(words[0]))


def main(arguments: Words | None = None) -> None:
    """Runs one camera until its input ends."""
    parser = argparse.ArgumentParser(description="A GigE Vision camera for tests.")
    parser.add_argument("--address", default="127.0.0.1")
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--height", type=int, default=512)
    parser.add_argument("--serial", default="LS0001")
    parser.add_argument("--user-id", default="")
    parser.add_argument("--pixel-formats", default=",".join(PIXEL_FORMATS), help="that it has, the first one chosen")
    parser.add_argument("--no-chunks", action="store_true", help="that it has none")
    parser.add_argument("--clock-offset", type=float, default=1000.0, metavar="SECONDS")
    parser.add_argument("--drift-ppm", type=float, default=0.0)
    parser.add_argument("--ticks-per-s", type=int, default=1_000_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--frame-log", type=Path, metavar="FILE", help="each frame that went out, one JSON object a line"
    )
    parser.add_argument("--do", action="append", default=[], metavar="COMMAND", help="carried out before it is ready")
    options = parser.parse_args(arguments)
    log = options.frame_log.open("w", buffering=1) if options.frame_log else None
    try:
        camera = GigEVisionCamera(
            options.address,
            width_px=options.width,
            height_px=options.height,
            serial_number=options.serial,
            user_id=options.user_id,
            sensor=Sensor(pixel_formats=options.pixel_formats.split(","), has_chunks=not options.no_chunks),
            clock_offset_s=options.clock_offset,
            drift_ppm=options.drift_ppm,
            ticks_per_s=options.ticks_per_s,
            seed=options.seed,
            on_frame=None if log is None else _logging(log),
        )
        commands = Commands(camera)
        for command in options.do:
            answer = commands.carry_out(command)
            if answer.startswith("error"):
                parser.error(answer)
        with camera:
            for line in chain([""], sys.stdin):
                print(commands.carry_out(line) if line.strip() else f"ready {options.address}", flush=True)
    except OSError as error:
        parser.error(f"{options.address}: {error}")
    finally:
        if log is not None:
            log.close()


def _logging(log: TextIO) -> Callable[[SentFrame], None]:
    def write(frame: SentFrame) -> None:
        log.write(json.dumps(asdict(frame)) + "\n")

    return write


if __name__ == "__main__":
    main()

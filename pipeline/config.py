"""The line's configuration: pydantic models, loaded from YAML, every fault reported at once with file and key path."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import ssl
import stat
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, BeforeValidator, Field, ValidationError, model_validator

from pipeline.calibration_store import Body, CalibrationFolder, CalibrationsInForce, judging_id, line_calibration_id
from pipeline.camera_config import (
    KINDS,
    Camera,
    DeviceCamera,
    FolderCamera,
    RtspCamera,
    SimulatedCamera,
    VideoCamera,
    resolved,
)
from pipeline.machine import in_mib, memory_bytes, online_cores, rings_bytes, slot_bytes
from pipeline.messages import Role, UrgentRole
from vision.faults import Fault, FaultsError, disagreement, faults_of, quote
from vision.recipe import Recipe, Strict, with_thresholds
from vision.unique_keys import UniqueKeyLoader

_LINE_BYTES_MAX = 60_000
"""A worker gets its line in one message (see ``channel``)."""
_CHALLENGE_PARTS_MAX = 1_000
_RECORD_NAME_BYTES_MAX = 200
"""A file's name has 255, and a damaged record's has the session's id added."""
_Model = TypeVar("_Model", bound=BaseModel)
_TAG_IN_KEY = re.compile(rf"^(cameras\.\d+)\.(?:{'|'.join(KINDS)})(?=\.|$)")


DEADLINE_MAX_US = 9_999_999
ASSEMBLY_LIMIT_MAX_US = 50_000_000
"""Pictures wait for their part's name no longer than a minute."""


class TimingConfig(Strict):
    deadline_us: int = Field(
        gt=0, le=DEADLINE_MAX_US, description="from the trigger to the latest useful verdict at the highest belt speed"
    )
    guard_us: int = Field(default=3_000, ge=0, description="the final choice falls this long before the deadline")
    budget_us: int = Field(default=5_000, gt=0, description="frame in memory to verdict at the socket")

    @model_validator(mode="after")
    def _guard_leaves_time(self) -> TimingConfig:
        if self.guard_us >= self.deadline_us:
            raise disagreement("guard_us", str(self.guard_us), f"less than deadline_us {self.deadline_us}")
        return self


class EncoderConfig(Strict):
    bits: int = Field(default=32, ge=8, le=32, description="width of the controller's counter, which wraps")
    reject_offset_pulses: int = Field(ge=0, description="from the trigger to the reject gate")
    match_pulses: int = Field(
        default=0,
        ge=0,
        description="two cameras' triggers within this belong to one part, each camera's belt_offset_pulses taken off",
    )
    speed_max_pulses_per_s: float | None = Field(
        default=None, gt=0, description="the belt's highest speed; needed where cameras are at several places on it"
    )

    @model_validator(mode="after")
    def _fits_the_counter(self) -> EncoderConfig:
        if self.reject_offset_pulses >= 1 << (self.bits - 1):
            expected = f"less than half of the counter's {1 << self.bits}, or parts cannot be told apart"
            raise disagreement("reject_offset_pulses", str(self.reject_offset_pulses), expected)
        if self.match_pulses >= 1 << (self.bits - 2):
            expected = f"less than a quarter of the counter's {1 << self.bits}, and less than half a pitch"
            raise disagreement("match_pulses", str(self.match_pulses), expected)
        return self


class MqttConfig(Strict):
    host: str = Field(default="127.0.0.1", min_length=1)
    port: int = Field(default=1883, ge=1, le=65_535)
    protocol: Literal["auto", "5", "3.1.1"] = "auto"
    client_id: str | None = Field(
        default=None,
        min_length=1,
        max_length=18,
        pattern=r"^[A-Za-z0-9_-]+$",
        description="one of its own for every station on the broker; null: made from topic_root",
    )
    username: str | None = None
    password_env: str | None = Field(default=None, description="environment variable that holds the password")
    tls_ca_file: Path | None = Field(default=None, strict=False, description="relative to this file")
    keep_alive_s: int = Field(
        default=2,
        ge=1,
        le=60,
        description="a broker that takes bytes but answers nothing is given up after two of these",
    )

    @model_validator(mode="after")
    def _host_can_be_one(self) -> MqttConfig:
        try:
            self.host.encode("idna")
            is_name = self.host.isprintable() and " " not in self.host
        except UnicodeError:
            is_name = False
        if not is_name:
            raise disagreement("host", quote(self.host), "a host name or an IP address")
        return self

    @model_validator(mode="after")
    def _password_has_a_user(self) -> MqttConfig:
        if self.password_env is not None and self.username is None:
            raise disagreement("password_env", "a password without a name", "username as well")
        return self


class RecordsConfig(Strict):
    path: Path = Field(strict=False, description="the SQLite file, relative to this file")
    commit_interval_ms: int = Field(default=20, ge=1, le=10_000)
    on_record_fault: Literal["halt", "continue"] = "halt"
    sync_interval_ms: int = Field(
        default=1_000, ge=10, le=60_000, description="a power cut costs no more of the record than this"
    )
    history_per_s: float = Field(
        default=200.0,
        gt=0,
        le=100_000,
        description="so many results of an outage are told a second when it is over, beside the live ones",
    )
    segment_max_mib: int = Field(
        default=256, ge=1, le=65_536, description="a larger file is sealed and another one begun, beside it"
    )
    segment_max_hours: float = Field(default=24.0, gt=0, le=8_784, description="the same for an older one")
    keep_days: float | None = Field(
        default=None, gt=0, le=36_600, description="older sealed files are deleted; null keeps all"
    )
    keep_max_gib: float | None = Field(
        default=None, gt=0, le=1_000_000, description="where all files take more, the oldest sealed ones are deleted"
    )
    acknowledged_within_s: float = Field(
        default=5.0,
        gt=0,
        le=3600,
        description="a verdict not on record so long after its commit was due is a fault",
    )


class ImagesConfig(Strict):
    """Which frames are kept as files, how, and how much room they may take. See docs/operations.md."""

    path: Path = Field(strict=False, description="the folder, relative to this file")
    format: Literal["png", "jpeg"] = Field(default="png", description="png keeps every pixel as it was")
    jpeg_quality: int = Field(default=95, ge=1, le=100)
    thumbnail_px: int | None = Field(
        default=320, ge=32, le=4_096, description="longer side of the small picture with the defects drawn; null: none"
    )
    borderline_margin: float | None = Field(
        default=0.05,
        gt=0,
        le=1,
        description="a pass with a score this little below its reject_at_score is kept; null: none",
    )
    every_nth_pass: int | None = Field(default=1_000, ge=1, description="of the other passes; null: none")
    max_gib: float = Field(
        default=20.0, gt=0, le=1_000_000, description="the files take no more; the oldest passes go first"
    )
    free_min_gib: float = Field(default=2.0, ge=0, le=1_000_000, description="so much of the disk stays free")
    memory_mib: int = Field(
        default=256, ge=1, le=65_536, description="frames that wait for their part's name or the disk"
    )
    ring_slots: int = Field(
        default=8, ge=1, le=256, description="in each camera's ring beside its own, for images alone"
    )


class RecordingConfig(Strict):
    """Where windows of all frames go when they are asked for. See docs/replay.md."""

    path: Path = Field(strict=False, description="the folder that each window gets a folder in, relative to this file")
    max_s: float = Field(default=60.0, gt=0, le=86_400, description="the longest that may be asked for")
    max_gib: float = Field(default=10.0, gt=0, le=100_000, description="a window that is larger ends")
    free_min_gib: float = Field(default=2.0, ge=0, le=1_000_000, description="so much of the disk stays free")
    memory_mib: int = Field(default=256, ge=1, le=65_536, description="frames that wait for the disk")


class RuntimeConfig(Strict):
    # As in vision.providers, which is not for processes that open no model.
    provider: Literal["auto", "tensorrt", "tensorrt_fp16", "tensorrt_int8", "cuda", "openvino", "cpu"] = "auto"
    allow_fallback: bool = False
    on_unverified: Literal["refuse", "warn"] = Field(
        default="refuse", description="what to do where `lineside model verify` has not passed on this runtime"
    )
    intra_op_threads: int = Field(default=1, ge=1, le=64)
    engine_cache: Path | None = Field(default=None, strict=False, description="folder, relative to this file")
    warm_up_runs: int = Field(default=20, ge=1, le=10_000)


class SupervisionConfig(Strict):
    restarts_max_count: int = Field(default=20, ge=0, le=10_000)
    restarts_within_s: float = Field(default=60.0, gt=0, le=86_400)
    back_off_first_s: float = Field(default=0.05, gt=0, le=3600)
    back_off_max_s: float = Field(default=5.0, gt=0, le=3600)
    # Signs of life come every 200 ms, and signalling's with its heartbeats.
    silent_after_s: float = Field(
        default=2.0, ge=1, le=3600, description="a warm worker silent for this long is killed"
    )
    records_silent_after_s: float = Field(
        default=30.0, ge=1, le=3600, description="the same for records, which a slow disk may hold up, and for images"
    )
    warm_up_timeout_s: float = Field(default=300.0, gt=0, le=86_400)
    cpu_wakeup_latency_us: int | None = Field(
        default=0,
        ge=0,
        le=2_000_000_000,
        description="PM QoS: how long a sleeping core may take to wake; null leaves it to the kernel",
    )


class RunRule(Strict):
    """So many parts of one sort in a row."""

    count: int = Field(ge=1, le=100_000)
    action: Literal["alarm", "stop"] = "alarm"


class RateRule(Strict):
    """The share of rejects among the parts judged last."""

    window_parts: int = Field(ge=2, le=100_000)
    max_share: float | None = Field(default=None, ge=0, lt=1, description="more rejects than this are odd")
    min_share: float | None = Field(default=None, gt=0, le=1, description="fewer rejects than this are odd too")
    action: Literal["alarm", "stop"] = "alarm"

    @model_validator(mode="after")
    def _has_a_limit(self) -> RateRule:
        if self.max_share is None and self.min_share is None:
            raise disagreement("max_share", "neither max_share nor min_share", "one of them, or both")
        if self.max_share is not None and self.min_share is not None and self.min_share >= self.max_share:
            raise disagreement("min_share", f"{self.min_share:g}", f"less than max_share {self.max_share:g}")
        return self


class LineRulesConfig(Strict):
    """What a run of parts says about the line; each rule is off unless written."""

    consecutive_rejects: RunRule | None = None
    reject_rate: RateRule | None = None
    consecutive_no_decisions: RunRule | None = None


class DegradedConfig(Strict):
    """When to warn that the service gets slow, or the box hot, before parts run out of time."""

    window_parts: int = Field(default=100, ge=20, le=1_000, description="parts that the warnings look back over")
    over_budget_share: float = Field(default=0.2, gt=0, le=1, description="share of parts that may exceed budget_us")
    headroom_used: float = Field(
        default=0.7, gt=0, lt=1, description="share of deadline_us - guard_us that 95 % of the parts may use"
    )
    temperature_max_c: float = Field(
        default=90.0, gt=0, description="where the sensor names no limit of its own; else 5 below that"
    )
    platform_interval_s: float | None = Field(
        default=5.0, ge=0.1, le=3600, description="between readings of temperatures and throttling; null: none"
    )


class RealtimeConfig(Strict):
    """What to ask of the kernel for steady times; see docs/operations.md before using any of it."""

    cores: dict[Role, Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]] = Field(
        default={}, description="the cores that each role's processes stay on"
    )
    fifo_priority: dict[UrgentRole, Annotated[int, Field(ge=1, le=49)]] = Field(
        default={}, description="SCHED_FIFO for each role; the kernel's interrupt threads run at 50"
    )
    lock_memory: bool = Field(
        default=False, description="no page of a worker (but records and images) leaves memory once it is warm"
    )


class ChallengeKind(Strict):
    """Known parts of one kind, which the challenge asks for one after the other."""

    kind: str = Field(min_length=1, max_length=64, description="what the operator knows these parts by")
    expected: Literal["PASS", "REJECT"]
    count: int = Field(ge=1, le=1_000)
    part_count: int = Field(default=1, ge=1, le=1_000, description="different parts, which are shown in turn")
    wrong_max: int = Field(default=0, ge=0, description="so many may be judged otherwise")

    @model_validator(mode="after")
    def _can_fail(self) -> ChallengeKind:
        if self.wrong_max >= self.count:
            raise disagreement(
                "wrong_max", str(self.wrong_max), f"less than count {self.count}: this kind could not fail"
            )
        if self.part_count > self.count:
            raise disagreement("part_count", str(self.part_count), f"at most count {self.count}: each is shown once")
        return self


def _off_is_a_word(value: object) -> object:
    """YAML 1.1 reads a bare ``off`` as false."""
    return "off" if value is False else value


class LineConfig(Strict):
    """One inspection station."""

    topic_root: str = Field(
        max_length=256,
        # A topic that begins with $ is the broker's own.
        pattern=r"^[^$/#+\x00-\x1f\x7f-\x9f][^/#+\x00-\x1f\x7f-\x9f]*(/[^/#+\x00-\x1f\x7f-\x9f]+)*$",
        description="ISA-95 style, e.g. acme/plant1/line4/aoi1",
    )
    recipe: Path = Field(strict=False, description="relative to this file")
    cameras: list[Camera] = Field(min_length=1, max_length=8)
    timing: TimingConfig
    encoder: EncoderConfig | None = None
    mqtt: MqttConfig = MqttConfig()
    heartbeat_ms: int = Field(
        default=50, ge=10, le=200, description="the controller rejects everything after 500 ms without one"
    )
    view_wait_us: int = Field(
        default=2_000,
        ge=0,
        description="how long the first view of a part waits for the others at the same place; "
        "less than half of the time between two parts, else nothing joins views that have no encoder counts",
    )
    assembly_limit_us: int | None = Field(
        default=None,
        gt=0,
        le=ASSEMBLY_LIMIT_MAX_US,
        description="how long a part waits, from its first camera's trigger, for that of the last camera on the belt; "
        "where they are at several places",
    )
    ledger_parts: int = Field(
        default=65_536, ge=256, le=131_072, description="how many parts the record may lag behind"
    )
    is_simulated: bool = False
    records: RecordsConfig
    images: ImagesConfig | None = Field(default=None, description="which frames are kept as files; null: none")
    recording: RecordingConfig | None = Field(
        default=None, description="windows of all frames, when asked for; needs images, whose process writes them"
    )
    runtime: RuntimeConfig = RuntimeConfig()
    supervision: SupervisionConfig = SupervisionConfig()
    line_rules: LineRulesConfig = LineRulesConfig()
    line_clearance: Annotated[Literal["off", "changeover", "always"], BeforeValidator(_off_is_a_word)] = Field(
        default="off", description="which starts wait for cmd/confirm_line_clear before anything is judged"
    )
    challenge: list[ChallengeKind] = Field(
        default=[], description="known parts in the order in which cmd/start_challenge asks for them"
    )
    challenge_valid_hours: float | None = Field(
        default=None,
        gt=0,
        le=8_784,
        description="nothing is judged later than this after a challenge that passed; null: no challenge is asked for",
    )
    calibrations: Path | None = Field(
        default=None,
        strict=False,
        description="folder of what lineside calibrate found, relative to this file; null: none",
    )
    degraded: DegradedConfig = DegradedConfig()
    realtime: RealtimeConfig = RealtimeConfig()

    @model_validator(mode="after")
    def _recording_has_a_writer(self) -> LineConfig:
        if self.recording is not None and self.images is None:
            raise disagreement("recording", "recording without images", "images as well: its process writes windows")
        return self

    @model_validator(mode="after")
    def _challenge_has_parts(self) -> LineConfig:
        if self.challenge and self.challenge_valid_hours is None:
            raise disagreement(
                "challenge", "kinds of parts", "challenge_valid_hours as well: how long one that passed is worth it"
            )
        if (total := sum(kind.count for kind in self.challenge)) > _CHALLENGE_PARTS_MAX:
            raise disagreement("challenge", f"{total} parts in all", f"at most {_CHALLENGE_PARTS_MAX}")
        if self.challenge_valid_hours is not None and not any(kind.expected == "REJECT" for kind in self.challenge):
            got = "no kind that is to be rejected" if self.challenge else "none"
            raise disagreement("challenge", got, "kinds of parts, known defective ones among them")
        names = [kind.kind for kind in self.challenge]
        if len(set(names)) != len(names):
            raise disagreement("challenge", f"two kinds of one name among {names}", "every kind once")
        return self

    @model_validator(mode="after")
    def _somebody_fires(self) -> LineConfig:
        for index, camera in enumerate(self.cameras):
            if isinstance(camera, DeviceCamera) and camera.trigger == "software" and camera.trigger_notices is None:
                expected = "trigger_notices as well: each notice of a trigger fires the camera"
                raise disagreement(f"cameras.{index}.trigger", "software", expected)
        return self

    @model_validator(mode="after")
    def _fired_frames_are_in_time(self) -> LineConfig:
        left_us = self.timing.deadline_us - self.timing.guard_us - self.timing.budget_us
        for index, camera in enumerate(self.cameras):
            if not isinstance(camera, DeviceCamera) or camera.trigger_notices is None:
                continue
            pitch_us = camera.trigger_notices.pitch_us
            if camera.trigger == "software" and pitch_us >= 2 * left_us:
                expected = (
                    f"less than {2 * left_us}: a frame that a notice fired waits half of it for the next notice, "
                    f"and timing.deadline_us less guard_us and budget_us is {left_us}"
                )
                raise disagreement(f"cameras.{index}.trigger_notices.pitch_us", str(pitch_us), expected)
        return self

    @model_validator(mode="after")
    def _views_wait_less_than_parts(self) -> LineConfig:
        left_us = self.timing.deadline_us - self.timing.guard_us
        by_moments = not (self.has_told_triggers or self.is_along_the_belt)
        if len(self.cameras) > 1 and by_moments and self.view_wait_us >= left_us:
            expected = (
                f"less than timing.deadline_us less guard_us, {left_us}, and than half of the time between two parts"
            )
            raise disagreement("view_wait_us", str(self.view_wait_us), expected)
        return self

    @model_validator(mode="after")
    def _told_views_can_meet(self) -> LineConfig:
        if len(self.cameras) == 1 or not self.has_told_triggers:
            return self
        for index, camera in enumerate(self.cameras):
            if _is_told(camera) or (self.encoder is not None and camera.tells_encoder_count):
                continue
            expected = (
                "trigger_notices for every camera, or an encoder whose count each of them tells: when a trigger is told does "
                "not say which part it is of"
            )
            raise disagreement(f"cameras.{index}.trigger_notices", "none, beside cameras that have them", expected)
        return self

    @model_validator(mode="after")
    def _cameras_are_distinct(self) -> LineConfig:
        names = [camera.camera_id for camera in self.cameras]
        doubled = sorted({name for name in names if names.count(name) > 1})
        if doubled:
            raise disagreement(
                "cameras", f"camera_id {', '.join(doubled)} more than once", "another one for each camera"
            )
        return self

    @model_validator(mode="after")
    def _offsets_can_be_counted(self) -> LineConfig:
        for index, camera in enumerate(self.cameras):
            offset, key = camera.belt_offset_pulses, f"cameras.{index}.belt_offset_pulses"
            if offset and self.encoder is None:
                raise disagreement(
                    key, str(offset), "an encoder, or no offset: nothing else tells how far the belt came"
                )
            if self.is_along_the_belt and not camera.tells_encoder_count:
                got = f"{offset}, of a camera (kind {camera.kind}) that tells no encoder count with its triggers"
                raise disagreement(key, got, "all cameras at one place, or one that does: else no part can be followed")
            if self.encoder is not None and offset > self.encoder.reject_offset_pulses:
                expected = f"at most encoder.reject_offset_pulses {self.encoder.reject_offset_pulses}"
                raise disagreement(key, str(offset), f"{expected}: the gate comes after the last camera")
        return self

    @model_validator(mode="after")
    def _assembly_can_end(self) -> LineConfig:
        encoder, limit_us = self.encoder, self.assembly_limit_us
        if not self.is_along_the_belt or encoder is None:
            if limit_us is not None:
                expected = "none, as all cameras have the same belt_offset_pulses"
                raise disagreement("assembly_limit_us", str(limit_us), expected)
            return self
        if limit_us is None:
            expected = "how long a part waits for its last camera, as their belt_offset_pulses differ"
            raise disagreement("assembly_limit_us", "none", expected)
        speed = encoder.speed_max_pulses_per_s
        if speed is None:
            expected = "the belt's highest speed, as the cameras' belt_offset_pulses differ"
            raise disagreement("encoder.speed_max_pulses_per_s", "none", expected)
        offsets = sorted(camera.belt_offset_pulses for camera in self.cameras)
        if (least_us := (offsets[-1] - offsets[0]) / speed * 1e6) >= limit_us:
            expected = (
                f"more than the {least_us:.0f} that the belt takes from the first camera to the last at its fastest"
            )
            raise disagreement("assembly_limit_us", str(limit_us), expected)
        if speed * limit_us / 1e6 >= 1 << (encoder.bits - 1):
            most_us = (1 << (encoder.bits - 1)) / speed * 1e6
            expected = f"less than {most_us:.0f}, in which the belt can move half of the counter's {1 << encoder.bits}"
            raise disagreement("assembly_limit_us", str(limit_us), expected)
        return self

    @property
    def is_along_the_belt(self) -> bool:
        """Whether its cameras are at several places."""
        return len({camera.belt_offset_pulses for camera in self.cameras}) > 1

    @property
    def has_told_triggers(self) -> bool:
        """Whether somebody else than the camera tells of a camera's triggers."""
        return any(_is_told(camera) for camera in self.cameras)

    @property
    def keys_join(self) -> bool:
        """Whether the views of a part can be brought together by the part_key that the notices of its triggers tell."""
        return not self.is_along_the_belt and all(_is_told(camera) for camera in self.cameras)

    @property
    def image_slots(self) -> int:
        """In each ring, beside the camera's own."""
        return 0 if self.images is None else self.images.ring_slots


def _is_told(camera: Camera) -> bool:
    return isinstance(camera, DeviceCamera) and camera.trigger_notices is not None


@dataclass(frozen=True, slots=True)
class Line:
    """A whole, consistent line: configuration and recipe with every path absolute.

    ``calibration_ids``: by camera, of the calibrations that were in force when it was read; a camera that has none is missing.
    ``recipe``: with their thresholds; ``judging_id``: of what is in them that verdicts can depend on.
    """

    file: Path
    config: LineConfig
    recipe_file: Path
    recipe: Recipe
    calibration_ids: dict[str, str]
    judging_id: str | None

    @property
    def calibration_id(self) -> str | None:
        """Of all its calibrations together; None without any."""
        cameras = (camera.camera_id for camera in self.config.cameras)
        return line_calibration_id([self.calibration_ids[each] for each in cameras if each in self.calibration_ids])

    @property
    def calibrations(self) -> CalibrationsInForce | None:
        """None without any."""
        folder = self.config.calibrations
        if folder is None or not self.calibration_ids:
            return None
        return CalibrationsInForce(CalibrationFolder(folder), self.recipe.recipe_id, self.calibration_ids)

    def to_json(self) -> str:
        """The whole line as text, for ``from_json``."""
        parts = {
            "file": str(self.file),
            "config": self.config.model_dump(mode="json"),
            "recipe_file": str(self.recipe_file),
            "recipe": self.recipe.model_dump(mode="json", by_alias=True),
            "calibration_ids": self.calibration_ids,
            "judging_id": self.judging_id,
        }
        return json.dumps(parts)

    @classmethod
    def from_json(cls, text: str) -> Line:
        """The line that ``to_json`` wrote; it was checked when it was read from its files."""
        parts = json.loads(text)
        return cls(
            file=Path(parts["file"]),
            config=LineConfig.model_validate_json(json.dumps(parts["config"])),
            recipe_file=Path(parts["recipe_file"]),
            recipe=Recipe.model_validate_json(json.dumps(parts["recipe"])),
            # A window of a line from before there were calibrations has none.
            calibration_ids=parts.get("calibration_ids", {}),
            judging_id=parts.get("judging_id"),
        )


def load_line(file: Path) -> Line:
    """Read a line and its recipe. Raises FaultsError with all faults of both files."""
    try:
        file = file.resolve()
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links, before Python 3.13
        raise FaultsError([Fault(str(file), "", str(error), "a readable YAML file")]) from error
    faults: list[Fault] = []
    content = _read_mapping(file)
    try:
        config = _validated(file, content, LineConfig)
    except FaultsError as error:
        # The recipe's faults are told with the line's, as far as the recipe can be found.
        if isinstance(content.get("recipe"), str):
            _load_recipe(resolved(file.parent / content["recipe"]), faults)
        raise FaultsError([*error.faults, *faults]) from error
    faults += _secrets(file, config)
    config = _with_absolute_paths(config, file.parent)
    faults += _file_faults(file, config)
    recipe = _load_recipe(config.recipe, faults)
    if recipe is not None:
        line_cameras = {camera.camera_id for camera in config.cameras}
        for index, view in enumerate(recipe.views):
            if view.camera_id not in line_cameras:
                expected = f"one of the line's cameras: {', '.join(sorted(line_cameras))}"
                faults.append(Fault(str(config.recipe), f"views.{index}.camera_id", view.camera_id, expected))
        for index, camera in enumerate(config.cameras):
            if camera.camera_id not in {view.camera_id for view in recipe.views}:
                expected = f"a camera with a view in {config.recipe.name}"
                faults.append(Fault(str(file), f"cameras.{index}.camera_id", camera.camera_id, expected))
    faults += [*_place_faults(file, config, recipe), *_memory_faults(file, config), *_core_faults(file, config)]
    for index, camera in enumerate(config.cameras):
        if isinstance(camera, FolderCamera):
            faults += _folder_faults(file, f"cameras.{index}.folder", camera.folder)
        elif isinstance(camera, VideoCamera) and (reason := _no_readable_file(camera.file)):
            faults.append(Fault(str(file), f"cameras.{index}.file", f"{camera.file}: {reason}", "a video file"))
    if faults or recipe is None:
        raise FaultsError(faults)
    calibrations = _calibrations(file, config, recipe)
    recipe = recipe.model_copy(update={"model": _model_folder(config, recipe)})
    recipe = with_thresholds(recipe, {camera_id: _thresholds(body) for camera_id, body in calibrations.items()})
    ids = {camera_id: str(body["calibration_id"]) for camera_id, body in calibrations.items()}
    line = Line(file, config, config.recipe, recipe, ids, judging_id(calibrations))
    if (size := len(line.to_json().encode())) > _LINE_BYTES_MAX:
        got, expected = f"{size} bytes, recipe and all paths included", f"at most {_LINE_BYTES_MAX}"
        raise FaultsError([Fault(str(file), "", got, expected)])
    return line


def _calibrations(file: Path, config: LineConfig, recipe: Recipe) -> dict[str, Body]:
    """By camera, those in force. What else is in them is for whoever applies it. Raises FaultsError."""
    if config.calibrations is None:
        return {}
    store, found = CalibrationFolder(config.calibrations), {}
    faults: list[Fault] = []
    for index, camera in enumerate(config.cameras):
        try:
            body = store.in_force(recipe.recipe_id, camera.camera_id)
        except FaultsError as error:
            faults += error.faults
            continue
        except OSError as error:
            faults.append(Fault(str(file), "calibrations", f"{error.filename}: {error.strerror}", "a readable folder"))
            continue
        if body is None:
            continue
        found[camera.camera_id] = body
        size = body.get("width_px"), body.get("height_px")
        if size != (camera.width_px, camera.height_px):
            got = f"{camera.width_px}x{camera.height_px} px"
            expected = (
                f"{size[0]}x{size[1]}, as in {store.path(recipe.recipe_id, camera.camera_id)}; or calibrate again"
            )
            faults.append(Fault(str(file), f"cameras.{index}.width_px", got, expected))
    if faults:
        raise FaultsError(faults)
    return found


def _thresholds(calibration: Body) -> dict[str, float]:
    """By class; empty where none were calibrated. Another shape is told by whoever reads the whole calibration."""
    section = calibration.get("threshold")
    scores = section.get("reject_at_score") if isinstance(section, dict) else None
    scores = scores if isinstance(scores, dict) else {}
    return {name: score for name, score in scores.items() if isinstance(score, float)}


def load_model(file: Path, model: type[_Model]) -> _Model:
    """One YAML file as one pydantic model. Raises FaultsError with every fault in it."""
    return _validated(file, _read_mapping(file), model)


def _load_recipe(file: Path, faults: list[Fault]) -> Recipe | None:
    try:
        return load_model(file, Recipe)
    except FaultsError as error:
        faults += error.faults
        return None


def _read_mapping(file: Path) -> dict[Any, Any]:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise FaultsError([Fault(str(file), "", _reason(error), "a readable YAML file")]) from error
    try:
        content = yaml.load(text, Loader=UniqueKeyLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise FaultsError([Fault(str(file), where, problem, "well-formed YAML")]) from error
    except RecursionError as error:
        raise FaultsError([Fault(str(file), "", "lists or mappings nested too deep", "well-formed YAML")]) from error
    if not isinstance(content, dict):
        raise FaultsError([Fault(str(file), "", quote(content), "a mapping of keys to values")])
    return content


def _validated(file: Path, content: dict[Any, Any], model: type[_Model]) -> _Model:
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise FaultsError([_without_tag(fault) for fault in faults_of(str(file), error)]) from error


def _without_tag(fault: Fault) -> Fault:
    """Pydantic puts the tag of a union's member into the path; nobody wrote it into the file."""
    return replace(fault, key=_TAG_IN_KEY.sub(r"\1", fault.key))


def _reason(error: Exception) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)


def _with_absolute_paths(config: LineConfig, folder: Path) -> LineConfig:
    def absolute(path: Path | None) -> Path | None:
        return None if path is None else resolved(folder / path)

    # Two clients of one name throw each other out.
    client_id = config.mqtt.client_id or f"lineside-{hashlib.sha256(config.topic_root.encode()).hexdigest()[:8]}"
    cameras = [camera.with_absolute_paths(folder) for camera in config.cameras]
    images = config.images
    if images is not None:
        images = images.model_copy(update={"path": absolute(images.path)})
    recording = config.recording
    if recording is not None:
        recording = recording.model_copy(update={"path": absolute(recording.path)})
    return config.model_copy(
        update={
            "recipe": absolute(config.recipe),
            "cameras": cameras,
            "mqtt": config.mqtt.model_copy(
                update={"tls_ca_file": absolute(config.mqtt.tls_ca_file), "client_id": client_id}
            ),
            "images": images,
            "recording": recording,
            "calibrations": absolute(config.calibrations),
            "records": config.records.model_copy(update={"path": absolute(config.records.path)}),
            "runtime": config.runtime.model_copy(update={"engine_cache": absolute(config.runtime.engine_cache)}),
        }
    )


def _secrets(file: Path, config: LineConfig) -> list[Fault]:
    names = {"mqtt.password_env": config.mqtt.password_env}
    for index, camera in enumerate(config.cameras):
        if isinstance(camera, RtspCamera):
            names[f"cameras.{index}.password_env"] = camera.password_env
    return [
        Fault(str(file), key, f"{name}, which is not set", "the name of a set environment variable")
        for key, name in names.items()
        if name is not None and name not in os.environ
    ]


IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")


def _file_faults(file: Path, config: LineConfig) -> list[Fault]:
    faults = []
    authority, record = config.mqtt.tls_ca_file, config.records.path
    if authority is not None and (reason := _authority_fault(authority)):
        faults.append(Fault(str(file), "mqtt.tls_ca_file", f"{authority}: {reason}", "a file of certificates (PEM)"))
    faults += [Fault(str(file), "records.path", got, expected) for got, expected in _record_faults(record)]
    if config.images is not None and (got := _no_folder(config.images.path)):
        faults.append(Fault(str(file), "images.path", got, "a folder"))
    if config.calibrations is not None and (got := _no_folder(config.calibrations)):
        faults.append(Fault(str(file), "calibrations", got, "a folder"))
    if config.recording is not None and (got := _no_folder(config.recording.path)):
        faults.append(Fault(str(file), "recording.path", got, "a folder"))
    return faults


def _no_folder(path: Path) -> str:
    """Why it never will be one; empty where it is, or may come."""
    try:
        return "" if stat.S_ISDIR(path.stat().st_mode) else str(path)
    except OSError as error:
        return f"{path}: {error.strerror}" if error.errno in (errno.ELOOP, errno.ENAMETOOLONG) else ""


def _record_faults(record: Path) -> Iterator[tuple[str, str]]:
    """What got, what expected."""
    if (size := len(os.fsencode(record.name))) > _RECORD_NAME_BYTES_MAX:
        yield f"a name of {size} bytes, {quote(record.name)}", f"at most {_RECORD_NAME_BYTES_MAX}"
        return
    try:
        is_file = stat.S_ISREG(record.stat().st_mode)
    except OSError as error:
        # What is not there is made, and what cannot be reached now is waited for.
        if error.errno in (errno.ELOOP, errno.ENAMETOOLONG):
            yield f"{record}: {error.strerror}", "a file that can be opened"
        return
    if not is_file:
        yield str(record), "a file, not a folder, a pipe or a device"


def _place_faults(file: Path, config: LineConfig, recipe: Recipe | None) -> list[Fault]:
    """A record in the place of something else would be taken for a damaged one, or read as a model or an image."""
    record = config.records.path
    others = [(file, "this file"), (config.recipe, "the recipe"), (config.mqtt.tls_ca_file, "mqtt.tls_ca_file")]
    folders = [] if recipe is None else [(_model_folder(config, recipe), "the model package's")]
    for index, camera in enumerate(config.cameras):
        if isinstance(camera, FolderCamera):
            folders.append((camera.folder, f"cameras.{index}.folder"))
        elif isinstance(camera, SimulatedCamera):
            others.append((camera.address, f"cameras.{index}.address"))
        elif isinstance(camera, VideoCamera):
            others.append((camera.file, f"cameras.{index}.file"))
    wrong = [f"a file of its own, not {words}" for other, words in others if record == other]
    wrong += [f"a file in another folder than {words}" for folder, words in folders if record.parent == folder]
    faults = [Fault(str(file), "records.path", str(record), expected) for expected in wrong]
    ours = [
        (each.path, key) for each, key in ((config.images, "images.path"), (config.recording, "recording.path")) if each
    ]
    for kept, key in ours:
        files = [*others, (record, "the record")]
        wrong = [f"a folder of its own, not {words}" for other, words in files if kept == other]
        # Kept pictures would be played as parts, or taken for a part of the package.
        wrong += [
            f"a folder outside of {words}" for folder, words in folders if kept == folder or folder in kept.parents
        ]
        faults += [Fault(str(file), key, str(kept), expected) for expected in wrong]
    if len(ours) == 2 and ours[0][0] == ours[1][0]:
        faults.append(Fault(str(file), "recording.path", str(ours[1][0]), "another folder than images.path"))
    return faults


def _model_folder(config: LineConfig, recipe: Recipe) -> Path:
    return resolved(config.recipe.parent / recipe.model)


def _authority_fault(file: Path) -> str:
    try:
        ssl.create_default_context(cafile=str(file))
    except OSError as error:  # ssl.SSLError is one too
        return _reason(error)
    return ""


def _memory_faults(file: Path, config: LineConfig) -> list[Fault]:
    """The largest ring is named where all of them together are larger than memory, else what is asked for beside them."""
    present, more = memory_bytes(), config.image_slots
    taken = rings_bytes(config.cameras, more)
    largest = max(range(len(config.cameras)), key=lambda index: rings_bytes([config.cameras[index]]))
    camera = config.cameras[largest]
    if taken > present:
        ring = rings_bytes([camera], more)
        got = f"{camera.ring_slots + more} slots, {in_mib(ring)} at this frame size, all cameras {in_mib(taken)}"
        expected = f"slots of all cameras within this machine's {in_mib(present)} of memory"
        return [Fault(str(file), f"cameras.{largest}.ring_slots", got, expected)]
    frame_of = max(config.cameras, key=slot_bytes)
    faults: list[Fault] = []
    for key, asked in (("images", config.images), ("recording", config.recording)):
        if asked is None:
            continue
        waiting, got = asked.memory_mib << 20, str(asked.memory_mib)
        if waiting < slot_bytes(frame_of):
            expected = f"room for a frame of camera {frame_of.camera_id}, {in_mib(slot_bytes(frame_of))}"
            faults.append(Fault(str(file), f"{key}.memory_mib", got, expected))
        elif taken + waiting > present:
            beside = "the rings'" if key == "images" else "the rings' and images'"
            expected = f"no more than this machine's {in_mib(present)} leave beside {beside} {in_mib(taken)}"
            faults.append(Fault(str(file), f"{key}.memory_mib", got, expected))
        taken += waiting
    return faults


def _core_faults(file: Path, config: LineConfig) -> list[Fault]:
    present = online_cores()
    expected = f"cores of this machine: {', '.join(map(str, sorted(present)))}"
    return [
        Fault(str(file), f"realtime.cores.{role}", ", ".join(map(str, cores)), expected)
        for role, cores in config.realtime.cores.items()
        if not present.issuperset(cores)
    ]


def _folder_faults(file: Path, key: str, folder: Path) -> list[Fault]:
    try:
        suffixes = {path.suffix.lower() for path in folder.iterdir()}
    except OSError as error:
        return [Fault(str(file), key, f"{folder}: {_reason(error)}", "a folder that can be read")]
    if suffixes.isdisjoint(IMAGE_SUFFIXES):
        return [Fault(str(file), key, f"{folder}, which holds no image", f"images ({', '.join(IMAGE_SUFFIXES)})")]
    return []


def _no_readable_file(file: Path) -> str:
    """Why; empty where it is one. What is in it shows when it is played."""
    try:
        if not stat.S_ISREG(file.stat().st_mode):
            return "no file"
        with file.open("rb"):
            return ""
    except OSError as error:
        return _reason(error)

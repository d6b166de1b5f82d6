"""A line's whole configuration: its sections and cameras, and what of them can not be together."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from pipeline.camera_config import Camera, DeviceCamera, TriggerNotices
from pipeline.config_sections import (
    ChallengeKind,
    DegradedConfig,
    EncoderConfig,
    ImagesConfig,
    LineRulesConfig,
    MqttConfig,
    RealtimeConfig,
    RecordingConfig,
    RecordsConfig,
    RuntimeConfig,
    SupervisionConfig,
    TimingConfig,
)
from vision.faults import disagreement
from vision.recipe import Strict

ASSEMBLY_LIMIT_MAX_US = 50_000_000
"""Pictures wait for their part's name no longer than a minute."""
_CHALLENGE_PARTS_MAX = 1_000


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
    def _devices_are_distinct(self) -> LineConfig:
        first: dict[tuple[str, str], str] = {}
        for index, camera in enumerate(self.cameras):
            for key in ("address", "serial"):
                value = getattr(camera, key, None) if isinstance(camera, DeviceCamera) else None
                if value is None:
                    continue
                other = first.setdefault((key, str(value)), camera.camera_id)
                if other != camera.camera_id:
                    expected = f"another one than that of {other}: a device is one camera"
                    raise disagreement(f"cameras.{index}.{key}", str(value), expected)
        return self

    @model_validator(mode="after")
    def _photo_eyes_are_at_one_place(self) -> LineConfig:
        first: dict[str, Camera] = {}
        for index, camera in enumerate(self.cameras):
            if (notices := _notices_of(camera)) is None:
                continue
            topic = notices.topic_of(self.topic_root, camera.camera_id)
            other = first.setdefault(topic, camera)
            if other.belt_offset_pulses != camera.belt_offset_pulses:
                expected = (
                    f"{other.belt_offset_pulses} as for {other.camera_id}, or a topic of its own: one photo-eye tells both on "
                    f"{topic}, and is at one place"
                )
                raise disagreement(f"cameras.{index}.belt_offset_pulses", str(camera.belt_offset_pulses), expected)
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

    @model_validator(mode="after")
    def _parts_lie_apart(self) -> LineConfig:
        encoder, pitch_us = self.encoder, self._told_pitch_us
        if len(self.cameras) == 1 or pitch_us is None or encoder is None or encoder.speed_max_pulses_per_s is None:
            return self
        speed = encoder.speed_max_pulses_per_s
        pitch_pulses = pitch_us * speed / 1e6
        if pitch_pulses > self.apart_pulses:
            return self
        if (most := self._match_pulses_max(pitch_pulses)) < 0:
            expected = (
                f"less than trigger_notices.pitch_us {pitch_us}, or the next part looks like a bounce of the one before"
            )
            raise disagreement("view_wait_us", str(self.view_wait_us), expected)
        expected = (
            f"at most {most}: with {encoder.match_pulses} parts have to lie more than {self.apart_pulses:.0f} pulses apart, and "
            f"by trigger_notices.pitch_us {pitch_us} and encoder.speed_max_pulses_per_s {speed:g} they lie {pitch_pulses:g} apart"
        )
        raise disagreement("encoder.match_pulses", str(encoder.match_pulses), expected)

    def _match_pulses_max(self, pitch_pulses: float) -> int:
        """As ``apart_pulses`` has it; below 0 where the belt moves a whole pitch within ``view_wait_us``."""
        if not self.is_along_the_belt:
            return math.ceil(pitch_pulses / 2) - 1
        return math.ceil(min(pitch_pulses / 4, (pitch_pulses - self._bounce_pulses) / 2)) - 1

    @property
    def apart_pulses(self) -> float:
        """Parts have to lie further apart than this, or counts do not tell whose a view is."""
        match_pulses = 0 if self.encoder is None else self.encoder.match_pulses
        return 2.0 * match_pulses + (max(2.0 * match_pulses, self._bounce_pulses) if self.is_along_the_belt else 0.0)

    @property
    def _bounce_pulses(self) -> float:
        """By how much the belt moves within ``view_wait_us`` at its fastest."""
        speed = None if self.encoder is None else self.encoder.speed_max_pulses_per_s
        return (speed or 0.0) * self.view_wait_us / 1e6

    @property
    def _told_pitch_us(self) -> int | None:
        """The shortest time between two parts that any camera's notices tell of."""
        return min(
            (notices.pitch_us for notices in map(_notices_of, self.cameras) if notices is not None), default=None
        )

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


def _notices_of(camera: Camera) -> TriggerNotices | None:
    return camera.trigger_notices if isinstance(camera, DeviceCamera) else None


def _is_told(camera: Camera) -> bool:
    return _notices_of(camera) is not None

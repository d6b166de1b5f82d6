"""The sections of a line's configuration, each for itself: what they hold, and what in each of them can not be."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from pipeline.messages import Role, UrgentRole
from vision.faults import disagreement, quote
from vision.recipe import Strict

DEADLINE_MAX_US = 9_999_999


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
    bits: int = Field(
        default=32,
        ge=8,
        le=32,
        description="width of the controller's counter, which wraps, and counts down where the belt runs back",
    )
    reject_offset_pulses: int = Field(ge=0, description="from the trigger to the reject gate")
    match_pulses: int = Field(
        default=0,
        ge=0,
        description="two cameras' triggers within this belong to one part, each camera's belt_offset_pulses taken off; "
        "less than half of what lies between two parts, along the belt less than a quarter",
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

"""What the camera of the tests offers: its features with their registers, and the GenICam description of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal
from xml.sax.saxutils import escape

PIXEL_FORMATS: Mapping[str, int] = {
    "Mono8": 0x01080001,
    "Mono10": 0x01100003,
    "Mono12": 0x01100005,
    "Mono10Packed": 0x010C0004,
    "Mono12Packed": 0x010C0006,
    "Mono10p": 0x010A0046,
    "Mono12p": 0x010C0047,
    "BayerGR8": 0x01080008,
    "BayerRG8": 0x01080009,
    "BayerGB8": 0x0108000A,
    "BayerBG8": 0x0108000B,
    "RGB8": 0x02180014,
    "BGR8": 0x02180015,
    "YUV422_8_UYVY": 0x0210001F,
    "YUV422_8": 0x02100032,
}
"""Number of each pixel format in the Pixel Format Naming Convention; bits 16 to 23 are its bits per pixel."""

IMAGE_CHUNK_ID = 0x0001
CHUNKS: Mapping[str, tuple[int, int]] = {
    "FrameID": (0x1000, 8),
    "Timestamp": (0x1001, 8),
    "CounterValue": (0x1002, 4),
    "EncoderValue": (0x1003, 4),
    "ExposureTime": (0x1004, 8),  # a double in microseconds
}
"""Chunk identifier and bytes of what ChunkSelector chooses from, in the order of ChunkSelector's values."""

Kind = Literal["integer", "float", "boolean", "enumeration", "command", "string"]
Access = Literal["RO", "RW", "WO"]


@dataclass(frozen=True)
class Feature:
    """One feature and the register behind it.

    Attributes:
        bit: From the most significant, where the feature is that bit of its register alone.
        low_half: The feature is the lower 16 bits of its register.
        selector: Feature that chooses among registers that lie one behind the other.
        selected: How many of them there are.
    """

    name: str
    kind: Kind
    address: int
    category: str
    access: Access = "RW"
    length: int = 4
    default: float | str = 0
    minimum: float | None = None
    maximum: float | None = None
    increment: float | None = None
    choices: Mapping[str, int] = field(default_factory=dict)
    command_value: int = 1
    bit: int | None = None
    low_half: bool = False
    selector: str | None = None
    selected: int = 1
    locked_while_acquiring: bool = False
    unit: str | None = None

    @property
    def is_part_of_register(self) -> bool:
        return self.bit is not None or self.low_half


@dataclass(frozen=True)
class Sensor:
    """What differs from camera to camera; without chunks nothing is told of them."""

    width_px: int = 4096
    height_px: int = 4096
    packet_bytes_max: int = 9000
    exposure_us_min: float = 10.0
    exposure_us_max: float = 1_000_000.0
    exposure_us_step: float = 2.5
    pixel_formats: Sequence[str] = tuple(PIXEL_FORMATS)
    has_chunks: bool = True


def features(sensor: Sensor, width_px: int, height_px: int) -> tuple[Feature, ...]:
    """Every feature of a camera; registers of the standard below 0xa000, its own from there on."""
    device, image, acquisition = "DeviceControl", "ImageFormatControl", "AcquisitionControl"
    analog, chunk, transport, counters = "AnalogControl", "ChunkDataControl", "TransportLayerControl", "CounterControl"
    off_on = {"Off": 0, "On": 1}
    trigger_selectors = {"AcquisitionStart": 0, "FrameStart": 1}

    def of_trigger(
        name: str, kind: Kind, address: int, access: Access = "RW", choices: Mapping[str, int] | None = None
    ) -> Feature:
        return Feature(
            name,
            kind,
            address,
            acquisition,
            access,
            choices=choices or {},
            selector="TriggerSelector",
            selected=len(trigger_selectors),
        )

    return (
        Feature("DeviceVendorName", "string", 0x48, device, "RO", 32),
        Feature("DeviceModelName", "string", 0x68, device, "RO", 32),
        Feature("DeviceVersion", "string", 0x88, device, "RO", 32),
        Feature("DeviceManufacturerInfo", "string", 0xA8, device, "RO", 48),
        Feature("DeviceSerialNumber", "string", 0xD8, device, "RO", 16),
        Feature("DeviceUserID", "string", 0xE8, device, "RW", 16),
        Feature("DeviceReset", "command", 0xA000, device, "WO"),
        Feature("TimestampLatch", "command", 0x944, device, "WO", command_value=2),
        Feature("TimestampReset", "command", 0x944, device, "WO", command_value=1),
        Feature("TimestampLatchValue", "integer", 0x948, device, "RO", 8),
        Feature("SensorWidth", "integer", 0xA010, image, "RO", default=sensor.width_px),
        Feature("SensorHeight", "integer", 0xA014, image, "RO", default=sensor.height_px),
        Feature(
            "Width",
            "integer",
            0xA018,
            image,
            default=width_px,
            minimum=4,
            maximum=sensor.width_px,
            increment=4,
            locked_while_acquiring=True,
        ),
        Feature(
            "Height",
            "integer",
            0xA01C,
            image,
            default=height_px,
            minimum=1,
            maximum=sensor.height_px,
            increment=1,
            locked_while_acquiring=True,
        ),
        Feature(
            "PixelFormat",
            "enumeration",
            0xA020,
            image,
            default=PIXEL_FORMATS[sensor.pixel_formats[0]],
            choices={name: PIXEL_FORMATS[name] for name in sensor.pixel_formats},
            locked_while_acquiring=True,
        ),
        Feature("PayloadSize", "integer", 0xA024, transport, "RO"),
        Feature(
            "AcquisitionMode",
            "enumeration",
            0xA030,
            acquisition,
            default=0,
            choices={"Continuous": 0, "SingleFrame": 1, "MultiFrame": 2},
            locked_while_acquiring=True,
        ),
        Feature(
            "AcquisitionFrameCount", "integer", 0xA034, acquisition, default=1, minimum=1, maximum=65535, increment=1
        ),
        Feature("AcquisitionStart", "command", 0xA038, acquisition, "WO"),
        Feature("AcquisitionStop", "command", 0xA03C, acquisition, "WO"),
        Feature("AcquisitionFrameRateEnable", "boolean", 0xA040, acquisition, default=1, minimum=0, maximum=1),
        Feature(
            "AcquisitionFrameRate", "float", 0xA048, acquisition, "RW", 8, 30.0, minimum=0.1, maximum=1000.0, unit="Hz"
        ),
        Feature("TriggerSelector", "enumeration", 0xA050, acquisition, default=0, choices=trigger_selectors),
        of_trigger("TriggerMode", "enumeration", 0xA054, choices=off_on),
        of_trigger("TriggerSource", "enumeration", 0xA05C, choices={"Line1": 0, "Software": 1}),
        of_trigger("TriggerActivation", "enumeration", 0xA064, choices={"RisingEdge": 0, "FallingEdge": 1}),
        of_trigger("TriggerSoftware", "command", 0xA06C, "WO"),
        Feature(
            "ExposureTime",
            "float",
            0xA078,
            acquisition,
            "RW",
            8,
            1000.0,
            minimum=sensor.exposure_us_min,
            maximum=sensor.exposure_us_max,
            increment=sensor.exposure_us_step,
            unit="us",
        ),
        Feature(
            "AcquisitionStatusSelector",
            "enumeration",
            0xA080,
            acquisition,
            choices={"FrameTriggerWait": 0, "AcquisitionActive": 1},
        ),
        Feature(
            "AcquisitionStatus", "boolean", 0xA084, acquisition, "RO", selector="AcquisitionStatusSelector", selected=2
        ),
        Feature("Gain", "float", 0xA090, analog, "RW", 8, 0.0, minimum=0.0, maximum=24.0, increment=0.5, unit="dB"),
        Feature("CounterValue", "integer", 0xA0A0, counters, "RO"),
        Feature("CounterReset", "command", 0xA0A4, counters, "WO"),
        Feature("EncoderValue", "integer", 0xA0A8, counters, "RO"),
        Feature("EncoderReset", "command", 0xA0AC, counters, "WO"),
        Feature("ChunkModeActive", "boolean", 0xA0B0, chunk, minimum=0, maximum=1, locked_while_acquiring=True),
        Feature("ChunkSelector", "enumeration", 0xA0B4, chunk, choices={name: n for n, name in enumerate(CHUNKS)}),
        Feature(
            "ChunkEnable",
            "boolean",
            0xA0B8,
            chunk,
            minimum=0,
            maximum=1,
            selector="ChunkSelector",
            selected=len(CHUNKS),
            locked_while_acquiring=True,
        ),
        Feature(
            "GevHeartbeatTimeout", "integer", 0x938, transport, default=3000, minimum=500, maximum=60000, increment=1
        ),
        Feature("GevTimestampTickFrequency", "integer", 0x93C, transport, "RO", 8),
        Feature(
            "GevSCPSPacketSize",
            "integer",
            0xD04,
            transport,
            default=1500,
            minimum=576,
            maximum=sensor.packet_bytes_max,
            increment=4,
            low_half=True,
            locked_while_acquiring=True,
        ),
        Feature("GevSCPSDoNotFragment", "boolean", 0xD04, transport, bit=1),
        Feature("GevSCPSFireTestPacket", "command", 0xD04, transport, bit=0),
        Feature("GevSCPD", "integer", 0xD08, transport, minimum=0, maximum=1_000_000, increment=1),
    )


def describe(all_features: Sequence[Feature], vendor: str, model: str, *, has_chunks: bool) -> bytes:
    """The GenICam description, as a client reads it from the camera."""
    if not has_chunks:
        all_features = [feature for feature in all_features if feature.category != "ChunkDataControl"]
    categories = list(dict.fromkeys(feature.category for feature in all_features))
    lines = [
        '<?xml version="1.0" encoding="utf-8"?>',
        f'<RegisterDescription ModelName="{escape(model)}" VendorName="{escape(vendor)}" ToolTip="Camera of the tests"',
        ' StandardNameSpace="GEV" SchemaMajorVersion="1" SchemaMinorVersion="1" SchemaSubMinorVersion="0"',
        ' MajorVersion="1" MinorVersion="0" SubMinorVersion="0"',
        ' ProductGuid="5a0f1a52-7d43-4c6f-9d0e-4a7f5a1d0c11" VersionGuid="0c8e1c7a-3f0b-4d55-8a53-0d8b6a1ff4e2"',
        ' xmlns="http://www.genicam.org/GenApi/Version_1_1">',
        _node("Category", "Root", [_element("pFeature", name) for name in categories]),
    ]
    for category in categories:
        names = [feature.name for feature in all_features if feature.category == category]
        names += [f"Chunk{name}" for name in CHUNKS] if category == "ChunkDataControl" else []
        names += ["TLParamsLocked"] if category == "TransportLayerControl" else []
        lines.append(_node("Category", category, [_element("pFeature", name) for name in names]))
    for feature in all_features:
        lines += _feature_nodes(feature)
    for name, (identifier, length) in CHUNKS.items() if has_chunks else ():
        kind, register = ("Float", "FloatReg") if name == "ExposureTime" else ("Integer", "IntReg")
        port = f"Chunk{name}Port"
        lines += [
            _node(kind, f"Chunk{name}", [_element("pValue", f"Chunk{name}Register")]),
            _node(register, f"Chunk{name}Register", _placed(0, length, "RO", port, is_float=kind == "Float")),
            _node("Port", port, [_element("ChunkID", f"{identifier:x}")]),
        ]
    locked = [_element("Value", 0), _element("Min", 0), _element("Max", 1)]
    lines += [_node("Integer", "TLParamsLocked", locked), _node("Port", "Device", []), "</RegisterDescription>"]
    return "\n".join(lines).encode()


def _feature_nodes(feature: Feature) -> list[str]:
    register = f"{feature.name}Register"
    placed = _placed(
        feature.address, feature.length, feature.access, "Device", is_float=feature.kind == "float", of=feature
    )
    if feature.kind == "string":
        return [_node("StringReg", feature.name, placed)]
    value = [_element("pValue", register)]
    limits = [
        _element(tag, f"{limit:g}" if feature.kind == "float" else int(limit))
        for tag, limit in (("Min", feature.minimum), ("Max", feature.maximum), ("Inc", feature.increment))
        if limit is not None
    ]
    unit = [_element("Unit", feature.unit)] if feature.unit else []
    bits = []
    if feature.bit is not None:
        bits = [_element("Bit", feature.bit)]
    elif feature.low_half:
        bits = [_element("LSB", 31), _element("MSB", 16)]
    integer = _node("MaskedIntReg" if bits else "IntReg", register, [*placed[:-2], *bits, *placed[-2:]])
    if feature.kind == "float":
        return [_node("Float", feature.name, value + limits + unit), _node("FloatReg", register, placed)]
    if feature.kind == "integer":
        return [_node("Integer", feature.name, value + limits + unit), integer]
    if feature.kind == "boolean":
        return [_node("Boolean", feature.name, [*value, _element("OnValue", 1), _element("OffValue", 0)]), integer]
    if feature.kind == "command":
        return [_node("Command", feature.name, [*value, _element("CommandValue", feature.command_value)]), integer]
    entries = [_node("EnumEntry", name, [_element("Value", number)]) for name, number in feature.choices.items()]
    return [_node("Enumeration", feature.name, [*entries, *value]), integer]


def _placed(
    address: int, length: int, access: Access, port: str, *, is_float: bool, of: Feature | None = None
) -> list[str]:
    lines = [_element("Address", f"0x{address:x}")]
    if of is not None and of.selector is not None:
        lines.append(f'<pIndex Offset="{length}">{of.selector}Register</pIndex>')
    lines += [_element("Length", length), _element("AccessMode", access), _element("pPort", port)]
    if port == "Device" and of is not None:
        # What the camera rounds or works out itself is read from it each time.
        lines.append(_element("Cachable", "NoCache"))
    if of is not None and of.kind == "string":
        return lines
    return [*lines, *([] if is_float else [_element("Sign", "Unsigned")]), _element("Endianess", "BigEndian")]


def _element(tag: str, value: object) -> str:
    return f"<{tag}>{escape(str(value))}</{tag}>"


def _node(tag: str, name: str, children: Sequence[str]) -> str:
    return f'<{tag} Name="{escape(name)}">{"".join(children)}</{tag}>'

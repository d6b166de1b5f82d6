"""The codes by which GenICam devices name pixel formats on the wire (EMVA's PFNC)."""

from __future__ import annotations

from vision.types import PixelFormat

_CODES = {
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
    "YUV422_8": 0x02100032,
    "YUV422_8_UYVY": 0x0210001F,
}
PIXEL_CODES: dict[PixelFormat, int] = {each: _CODES[each.value] for each in PixelFormat}


def format_name(code: int) -> str:
    """How the standard calls it; the number where it is none that is used here."""
    return next((name for name, known in _CODES.items() if known == code), f"pixel format {code:#010x}")

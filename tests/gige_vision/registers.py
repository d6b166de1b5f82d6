"""The registers of the camera of the tests: memory that a client reads and writes, with the refusals of the standard."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from enum import IntEnum

from tests.gige_vision.genicam import Feature

REGISTERS_END = 0xB000
XML_ADDRESS = 0x100000

Value = int | float


class Status(IntEnum):
    """How a command ended, in the numbers of the GigE Vision standard."""

    SUCCESS = 0x0000
    NOT_IMPLEMENTED = 0x8001
    INVALID_PARAMETER = 0x8002
    INVALID_ADDRESS = 0x8003
    WRITE_PROTECT = 0x8004
    BAD_ALIGNMENT = 0x8005
    ACCESS_DENIED = 0x8006
    BUSY = 0x8007
    PACKET_UNAVAILABLE = 0x800C


class Refused(Exception):
    """The command is answered with this status; `index` counts the writes of it that were carried out."""

    def __init__(self, status: Status, index: int = 0) -> None:
        super().__init__(status.name)
        self.status = status
        self.index = index


class Registers:
    """Registers below REGISTERS_END and the description from XML_ADDRESS on; numbers are big endian.

    Args:
        features: What a client may read and write by name; a feature's further registers are called `Name[1]`, `Name[2]` ...
        bootstrap: Further words of the standard, read only unless `on_write` names them: address -> (name, value).
        xml: The description.

    Attributes:
        on_read: Works out what is read of a register.
        on_write: Carries out what is written to a register; what it returns, if anything, is kept in its stead.
        is_locked: Whether an acquisition keeps registers from being written.
    """

    def __init__(self, features: Sequence[Feature], bootstrap: Mapping[int, tuple[str, int]], xml: bytes) -> None:
        self._xml = xml
        self._memory = bytearray(REGISTERS_END)
        self._places: dict[str, tuple[int, int]] = {}
        self._names: dict[int, str] = {}
        self._features: dict[str, Feature] = {}
        self.on_read: dict[str, Callable[[], Value]] = {}
        self.on_write: dict[str, Callable[[int], int | None]] = {}
        self.is_locked: Callable[[], bool] = lambda: False
        for address, (name, word) in bootstrap.items():
            self._place(name, address, 4)
            self[name] = word
        for feature in features:
            if feature.is_part_of_register or feature.address in self._names:
                continue
            for number in range(feature.selected):
                name = f"{feature.name}[{number}]" if number else feature.name
                self._place(name, feature.address + number * feature.length, feature.length)
                self._features[name] = feature
                if isinstance(feature.default, str) or feature.kind == "string":
                    self.set_text(name, str(feature.default or ""))
                else:
                    self[name] = feature.default

    def _place(self, name: str, address: int, length: int) -> None:
        self._places[name] = (address, length)
        self._names[address] = name

    def __getitem__(self, name: str) -> int:
        address, length = self._places[name]
        return int.from_bytes(self._memory[address : address + length], "big")

    def __setitem__(self, name: str, value: Value) -> None:
        address, length = self._places[name]
        is_float = name in self._features and self._features[name].kind == "float"
        raw = struct.pack(">d", value) if is_float else (int(value) & (1 << 8 * length) - 1).to_bytes(length, "big")
        self._memory[address : address + length] = raw

    def real(self, name: str) -> float:
        """Value of a float register."""
        address, _ = self._places[name]
        value: float = struct.unpack_from(">d", self._memory, address)[0]
        return value

    def set_text(self, name: str, text: str) -> None:
        """Writes a text register, shortened to what it holds with its closing zero."""
        address, length = self._places[name]
        self._memory[address : address + length] = text.encode()[: length - 1].ljust(length, b"\0")

    def put(self, address: int, raw: bytes) -> None:
        """Writes memory past every check."""
        self._memory[address : address + len(raw)] = raw

    def read(self, address: int, length: int) -> bytes:
        """What a client reads.

        Raises:
            Refused: Not on a word's boundary, or outside of the registers and the description.
        """
        if address % 4 or length % 4:
            raise Refused(Status.BAD_ALIGNMENT)
        if address >= XML_ADDRESS and address + length <= XML_ADDRESS + len(self._xml) + 3:
            return self._xml[address - XML_ADDRESS :][:length].ljust(length, b"\0")
        if address + length > REGISTERS_END:
            raise Refused(Status.INVALID_ADDRESS)
        for name, worked_out in self.on_read.items():
            at, size = self._places[name]
            if at < address + length and address < at + size:
                self[name] = worked_out()
        return bytes(self._memory[address : address + length])

    def write(self, address: int, raw: bytes) -> None:
        """What a client writes: one register.

        Raises:
            Refused: Not a register that may be written, or not now, or not this value.
        """
        if address % 4 or len(raw) % 4:
            raise Refused(Status.BAD_ALIGNMENT)
        name = self._names.get(address)
        if name is None:
            raise Refused(Status.INVALID_ADDRESS)
        feature = self._features.get(name)
        if (feature is None and name not in self.on_write) or (feature is not None and feature.access == "RO"):
            raise Refused(Status.WRITE_PROTECT)
        _, length = self._places[name]
        if feature is not None and feature.locked_while_acquiring and self.is_locked():
            raise Refused(Status.WRITE_PROTECT)
        if feature is not None and feature.kind == "string":
            if len(raw) > length:
                raise Refused(Status.INVALID_PARAMETER)
            self._memory[address : address + length] = raw.ljust(length, b"\0")
            return
        if len(raw) != length:
            raise Refused(Status.INVALID_PARAMETER)
        if feature is not None and feature.kind == "float":
            self[name] = _fitted(struct.unpack(">d", raw)[0], feature)
            return
        value = int.from_bytes(raw, "big")
        if feature is not None:
            _check(value, feature)
        kept = self.on_write[name](value) if name in self.on_write else None
        if feature is None or feature.kind != "command":
            self[name] = value if kept is None else kept


def _fitted(value: float, feature: Feature) -> float:
    """The nearest value that the camera can do."""
    assert feature.minimum is not None
    assert feature.maximum is not None
    if not feature.minimum <= value <= feature.maximum:
        raise Refused(Status.INVALID_PARAMETER)
    if feature.increment is None:
        return value
    return feature.minimum + round((value - feature.minimum) / feature.increment) * feature.increment


def _check(value: int, feature: Feature) -> None:
    if feature.choices and value not in feature.choices.values():
        raise Refused(Status.INVALID_PARAMETER)
    if feature.minimum is not None and value < feature.minimum:
        raise Refused(Status.INVALID_PARAMETER)
    if feature.maximum is not None and value > feature.maximum:
        raise Refused(Status.INVALID_PARAMETER)
    if feature.increment is not None and (value - (feature.minimum or 0)) % feature.increment:
        raise Refused(Status.INVALID_PARAMETER)

"""The features of a Basler camera, through pypylon's node maps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

from pypylon import genicam

from pipeline.cameras.device_features import FeatureError, FeatureKind, FeatureValue

_KINDS: dict[int, FeatureKind] = {
    genicam.intfIBoolean: "boolean",
    genicam.intfICommand: "command",
    genicam.intfIEnumeration: "enumeration",
    genicam.intfIFloat: "float",
    genicam.intfIInteger: "integer",
    genicam.intfIString: "string",
}
_FORMER_NAMES = {
    "BGR8": "BGR8Packed",
    "RGB8": "RGB8Packed",
    "YUV422_8": "YUV422_YUYV_Packed",
    "YUV422_8_UYVY": "YUV422Packed",
}
"""What cameras from before SFNC 2 call pixel formats that are the same on the wire."""

_Result = TypeVar("_Result")


def told(error: Exception) -> str:
    """What GenApi says, without where in its sources it says so."""
    text, _, place = str(error).rpartition(" : ")
    return text if " thrown " in place else str(error)


class PylonFeatures:
    """See ``pipeline.cameras.device_features.Features``. ``node_map`` is of a camera that stays open."""

    def __init__(self, node_map: Any) -> None:
        self._nodes = node_map

    def names(self) -> Sequence[str]:
        nodes = (each.GetNode() for each in self._nodes.GetNodes() if genicam.IsImplemented(each))
        return sorted(node.GetName() for node in nodes if node.IsFeature())

    def kind(self, name: str) -> FeatureKind | None:
        node = self._nodes.GetNode(name)
        if node is None or not genicam.IsAvailable(node):
            return None
        return _KINDS.get(node.GetNode().GetPrincipalInterfaceType())

    def get(self, name: str) -> FeatureValue:
        if self.kind(name) in (None, "command"):
            raise FeatureError("it has no value")
        value = cast(FeatureValue, _checked(lambda: self._nodes.GetNode(name).GetValue()))
        if name == "PixelFormat":
            value = next((new for new, former in _FORMER_NAMES.items() if former == value), value)
        return value

    def set(self, name: str, value: FeatureValue) -> None:
        kind = self.kind(name)
        if name == "PixelFormat" and value not in self._symbols(name):
            value = _FORMER_NAMES.get(str(value), value)
        convert = {"integer": int, "float": float, "boolean": bool}.get(str(kind), str)
        _checked(lambda: self._nodes.GetNode(name).SetValue(convert(value)))

    def execute(self, name: str) -> None:
        _checked(lambda: self._nodes.GetNode(name).Execute())

    def bounds(self, name: str) -> tuple[float, float]:
        node = self._nodes.GetNode(name)
        return _checked(lambda: (node.GetMin(), node.GetMax()))

    def choices(self, name: str) -> Sequence[str]:
        found = self._symbols(name)
        if name != "PixelFormat":
            return found
        return [next((new for new, former in _FORMER_NAMES.items() if former == each), each) for each in found]

    def _symbols(self, name: str) -> Sequence[str]:
        return _checked(lambda: list(self._nodes.GetNode(name).GetSymbolics()))


def _checked(call: Callable[[], _Result]) -> _Result:
    try:
        return call()
    except genicam.GenericException as error:
        raise FeatureError(told(error)) from error

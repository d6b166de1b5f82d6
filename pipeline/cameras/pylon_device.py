"""One Basler camera: found, opened, set up, started and closed. Everything here may block for seconds."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pypylon import genicam, pylon

from pipeline.camera_config import PylonCamera
from pipeline.cameras.asked_clock import Asked, ask_features
from pipeline.cameras.base import CameraUnavailable
from pipeline.cameras.device_features import FeatureError, Features, apply_features, switch_chunks_off
from pipeline.cameras.pylon_buffers import Buffers, Pixels
from pipeline.cameras.pylon_features import PylonFeatures, told
from pipeline.clock import NS_PER_S

_GIGE_NUMBERS = 65_535
"""1 to 65,535 and then 1 again, unless the camera counts by 64 bit ("extended ID")."""
_LONG_NUMBERS = 1 << 64
"""The standard's names, and those of GigE cameras from before it."""
_TICK_FREQUENCY = "GevTimestampTickFrequency"


@dataclass(frozen=True, slots=True)
class FoundCamera:
    """A camera that answered. ``address``: None where it has none, as on USB."""

    vendor: str
    model: str
    serial: str
    address: str | None
    protocol: str


def find_cameras() -> list[FoundCamera]:
    """All that pylon finds now: GigE by broadcast on every interface, USB, and emulated ones where PYLON_CAMEMU says so."""
    return [
        FoundCamera(
            each.GetVendorName(),
            each.GetModelName(),
            each.GetSerialNumber(),
            each.GetIpAddress() if each.IsIpAddressAvailable() else None,
            each.GetDeviceClass(),
        )
        for each in pylon.TlFactory.GetInstance().EnumerateDevices()
    ]


class _Removal(pylon.ConfigurationEventHandler):  # type: ignore[misc]  # pypylon has no types
    """Calls ``tell`` from a thread of pylon's once the camera is gone."""

    def __init__(self, tell: Callable[[], None]) -> None:
        super().__init__()
        self._tell = tell

    def OnCameraDeviceRemoved(self, _camera: Any) -> None:  # noqa: N802 - pypylon's name
        self._tell()


class PylonDevice:
    """An open camera, set up and not yet started. ``payload_bytes``: what a frame takes, chunks included.

    ``clock_asked``: a moment by its clock and by the box's; None where it can not be asked. ``ticks_per_s``: of its clock.
    ``number_count``: after so many frames their numbers come again.
    """

    def __init__(self, config: PylonCamera, on_removed: Callable[[], None]) -> None:
        """Raises CameraUnavailable."""
        self._config = config
        self._name = f"camera {config.camera_id}"
        self._removal = _Removal(on_removed)
        self._buffers: Buffers | None = None
        self.wait_object: Any = None
        self._camera: Any = pylon.InstantCamera()
        # Instead of pylon's own configuration, which would set the trigger.
        self._camera.RegisterConfiguration(self._removal, pylon.RegistrationMode_ReplaceAll, pylon.Cleanup_None)
        try:
            self._open()
            self._expect_serial()
            self.features: Features = PylonFeatures(self._camera.GetNodeMap())
            with contextlib.suppress(FeatureError):
                self.features.execute("AcquisitionStop")
            apply_features(config, self.features)
            self._enable_chunks()
            if config.trigger == "software":
                self._expect_software_trigger()
            frequency = self.features.kind(_TICK_FREQUENCY)
            self.ticks_per_s = NS_PER_S if frequency is None else int(self.features.get(_TICK_FREQUENCY))
            self.clock_asked = self.ask_clock()
            self.payload_bytes = int(self.features.get("PayloadSize"))
            self.number_count = _GIGE_NUMBERS if self._has_short_numbers() else _LONG_NUMBERS
            self.wait_object = self._camera.GetGrabResultWaitObject()
        except (genicam.GenericException, FeatureError) as error:
            self.close()
            raise CameraUnavailable(f"{self._name}: {self._where()}: {told(error)}") from error
        except CameraUnavailable:
            self.close()
            raise

    def ask_clock(self) -> Asked | None:
        """None where it can not be asked, or no answer came. For any thread."""
        return ask_features(self.features, self.ticks_per_s)

    def start(self, memories: Sequence[Pixels]) -> None:
        """Grab into ``memories``, in that order. Raises CameraUnavailable."""
        self._buffers = Buffers(memories)
        try:
            self._camera.SetBufferFactory(self._buffers)
            self._camera.MaxNumBuffer.Value = len(memories)
            self._camera.StartGrabbing(pylon.GrabStrategy_OneByOne, pylon.GrabLoop_ProvidedByUser)
        except genicam.GenericException as error:
            raise CameraUnavailable(f"{self._name}: {self._where()} does not start: {told(error)}") from error

    def retrieve(self) -> Any | None:
        """The next grab result, None where there is none now. Asks nothing of the camera. Raises CameraUnavailable."""
        try:
            result = self._camera.RetrieveResult(0, pylon.TimeoutHandling_Return)
        except genicam.GenericException as error:
            raise CameraUnavailable(f"{self._name}: {self._where()}: {told(error)}") from error
        return result if result.IsValid() else None

    def is_ready_for_trigger(self) -> bool:
        """Whether a software trigger would not be lost. Raises CameraUnavailable.

        pylon's own WaitForFrameTriggerReady keeps the lock of the camera while it waits, and frames wait for that.
        """
        try:
            if not self._camera.IsGrabbing():
                return False
            if self.features.kind("AcquisitionStatus") is not None:
                return bool(self.features.get("AcquisitionStatus"))
            return bool(self._camera.GetNodeMap().GetNode("TriggerSoftware").IsDone())
        except (genicam.GenericException, FeatureError) as error:
            raise CameraUnavailable(f"{self._name}: {self._where()}: {told(error)}") from error

    def trigger(self) -> None:
        """Raises CameraUnavailable."""
        try:
            self.features.execute("TriggerSoftware")
        except FeatureError as error:
            raise CameraUnavailable(f"{self._name}: {self._where()}: {error}") from error

    def stop(self) -> None:
        """After this nothing writes into the memories any more."""
        self._camera.StopGrabbing()

    def close(self) -> None:
        """After ``stop``, and when all grab results were released."""
        with contextlib.suppress(genicam.GenericException):
            self._camera.Close()
        self._camera.SetBufferFactory(None)
        if self._buffers is not None:
            self._buffers.forget()
        self._camera.DeregisterConfiguration(self._removal)
        with contextlib.suppress(genicam.GenericException):
            self._camera.DestroyDevice()
        # Each has pipes of its own, which last as long as they do.
        self.wait_object = self._camera = None

    def lost(self) -> CameraUnavailable:
        """What to raise once ``on_removed`` was called."""
        return CameraUnavailable(f"{self._name}: {self._where()} no longer answers")

    def _where(self) -> str:
        config = self._config
        return config.address if config.address is not None else f"serial {config.serial}"

    def _open(self) -> None:
        """Finds it by its address alone where there is one: then nothing is broadcast."""
        config, wanted = self._config, pylon.DeviceInfo()
        if config.address is not None:
            wanted.SetDeviceClass(pylon.BaslerGigEDeviceClass)
            wanted.SetIpAddress(config.address)
        else:
            wanted.SetSerialNumber(config.serial)
        factory = pylon.TlFactory.GetInstance()
        try:
            device = factory.CreateDevice(wanted)
        except genicam.GenericException as error:
            raise CameraUnavailable(f"{self._name}: {self._why_not_found(error)}") from error
        try:
            self._camera.Attach(device)
            self._camera.Open()
        except genicam.GenericException as error:
            _, access = factory.IsDeviceAccessibleInfo(wanted)
            if access in (pylon.Accessibility_Opened, pylon.Accessibility_OpenedExclusively):
                text = f"{self._where()} is in use by another program, which has to end first"
            else:
                text = f"{self._where()}: {told(error)}"
            raise CameraUnavailable(f"{self._name}: {text}") from error

    def _why_not_found(self, error: Exception) -> str:
        if self._config.address is not None:
            return f"no Basler camera answers at {self._config.address} ({told(error)})"
        cameras = find_cameras()
        found = ", ".join(f"{each.serial} ({each.model} at {each.address or each.protocol})" for each in cameras)
        return f"no camera with serial {self._config.serial} was found; found: {found or 'none'}"

    def _expect_serial(self) -> None:
        wanted, found = self._config.serial, self._camera.GetDeviceInfo().GetSerialNumber()
        if wanted is not None and found != wanted:
            raise CameraUnavailable(
                f"{self._name}: the camera at {self._where()} has serial {found}, expected {wanted}"
            )

    def _enable_chunks(self) -> None:
        """That of the configuration; a camera may have kept those of another."""
        chunk = self._config.encoder_chunk
        if chunk is None:
            switch_chunks_off(self.features)
            return
        name = chunk.removeprefix("Chunk")
        self._expect_feature("ChunkModeActive")
        # The selector is there once chunks are switched on.
        self.features.set("ChunkModeActive", True)
        self._expect_feature("ChunkSelector")
        choices = self.features.choices("ChunkSelector")
        if name not in choices:
            expected = ", ".join(f"Chunk{choice}" for choice in choices)
            raise CameraUnavailable(f"{self._name}: encoder_chunk: got {chunk}, expected one of {expected}")
        self.features.set("ChunkSelector", name)
        self.features.set("ChunkEnable", True)

    def _expect_feature(self, feature: str) -> None:
        if self.features.kind(feature) is None:
            raise CameraUnavailable(f"{self._name}: encoder_chunk: the camera has no feature {feature}")

    def _expect_software_trigger(self) -> None:
        if self.features.kind("AcquisitionStatusSelector") is not None:
            self.features.set("AcquisitionStatusSelector", "FrameTriggerWait")
        if not self._camera.CanWaitForFrameTriggerReady():
            text = "the camera does not tell when it is ready for one, so triggers could be lost"
            raise CameraUnavailable(f"{self._name}: trigger: software: {text}")

    def _has_short_numbers(self) -> bool:
        extended = "GevGVSPExtendedIDMode"
        is_extended = self.features.kind(extended) is not None and self.features.get(extended) == "On"
        return bool(self._camera.IsGigE()) and not is_extended

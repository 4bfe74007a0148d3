"""What a display device has: connectors with their modes, and planes with their formats."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum
from typing import NamedTuple

from dmabuf._record import record
from dmabuf.devices.kms import _ioctl

# Names of the types: drivers/gpu/drm/drm_connector.c
_CONNECTORS = (
    *("Unknown", "VGA", "DVI-I", "DVI-D", "DVI-A", "Composite", "SVIDEO", "LVDS", "Component"),
    *("DIN", "DP", "HDMI-A", "HDMI-B", "TV", "eDP", "Virtual", "DSI", "DPI", "Writeback", "SPI"),
    "USB",
)
LINEAR = 0  # DRM_FORMAT_MOD_LINEAR in include/uapi/drm/drm_fourcc.h


class ConnectorStatus(Enum):
    """Whether a monitor is on a connector: enum drm_connector_status."""

    CONNECTED = 1
    """One is, or the driver knows no better than that it should show."""
    DISCONNECTED = 2
    """None is."""
    UNKNOWN = 3
    """The driver can't tell."""


@record
class Mode(NamedTuple):
    """A size and a rate that a monitor can show, as the kernel reports it."""

    name: str
    """The kernel's name: "1024x768"."""
    width: int
    """In pixels."""
    height: int
    """In pixels."""
    refresh: float
    """In frames per second."""
    preferred: bool
    """Whether the monitor likes it best."""
    timings: bytes
    """The kernel's struct drm_mode_modeinfo."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.width, self.height

    def __str__(self) -> str:
        return f"{self.width}x{self.height}@{self.refresh:.4g}"


@record
class Connector(NamedTuple):
    """A plug for a monitor, as the kernel reports it."""

    name: str
    """As in sysfs: "HDMI-A-1", "Virtual-1"."""
    status: ConnectorStatus
    """Whether a monitor is on it."""
    modes: tuple[Mode, ...]
    """What the monitor can show, the best first; none while there is no monitor."""
    size_mm: tuple[int, int]
    """The picture's width and height in millimetres; 0, 0 if the monitor doesn't tell."""
    number: int
    """The kernel's id."""


class PlaneKind(Enum):
    """What a plane is for: enum drm_plane_type."""

    OVERLAY = 0
    """Above or below the picture."""
    PRIMARY = 1
    """The picture."""
    CURSOR = 2
    """The pointer."""


@record
class Plane(NamedTuple):
    """What takes a framebuffer to the screen, as the kernel reports it."""

    kind: PlaneKind
    """What it is for."""
    formats: Mapping[str, tuple[int, ...] | None]
    """The modifiers that go with each format, by DRM's code of four characters ("XR24"); None where
    the driver doesn't tell: linear, or what the exporting device and it agree on."""
    number: int
    """The kernel's id."""
    crtcs: int
    """The CRTCs that it can be on, a bit each, in the device's order."""


def read_connector(fd: int, number: int) -> Connector:
    """Ask for a connector; the kernel asks the monitor if this process is master."""
    about, _, modes = _ioctl.get_connector(fd, number)
    kind = about.connector_type
    name = _CONNECTORS[kind] if kind < len(_CONNECTORS) else "Unknown"
    return Connector(
        f"{name}-{about.connector_type_id}",
        ConnectorStatus(about.connection),
        tuple(_mode(timings) for timings in modes),
        (about.mm_width, about.mm_height),
        number,
    )


def _mode(timings: bytes) -> Mode:
    info = _ioctl.mode_info(timings)
    pixels = info.htotal * info.vtotal * max(info.vscan, 1)
    if info.flags & _ioctl.DRM_MODE_FLAG_DBLSCAN:
        pixels *= 2
    refresh = info.clock * 1000 / pixels if pixels else 0.0
    if info.flags & _ioctl.DRM_MODE_FLAG_INTERLACE:
        refresh *= 2
    preferred = bool(info.type & _ioctl.DRM_MODE_TYPE_PREFERRED)
    name = _ioctl.text(info.name)
    return Mode(name, info.hdisplay, info.vdisplay, refresh, preferred, timings)


def read_planes(fd: int) -> Iterator[tuple[Plane, dict[str, tuple[int, int]]]]:
    """Yield each plane with its properties: name → (id, value)."""
    for number in _ioctl.get_planes(fd):
        about, codes = _ioctl.get_plane(fd, number)
        properties = _ioctl.get_properties(fd, number)
        kind = PlaneKind(properties["type"][1])
        formats = _formats(fd, codes, properties)
        yield Plane(kind, formats, number, about.possible_crtcs), properties


def _formats(
    fd: int, codes: list[int], properties: Mapping[str, tuple[int, int]]
) -> dict[str, tuple[int, ...] | None]:
    _, blob = properties.get("IN_FORMATS", (0, 0))
    if not blob:
        return {fourcc(code): None for code in codes}
    modifiers: dict[int, list[int]] = {code: [] for code in codes}
    for modifier, with_it in _ioctl.formats_by_modifier(_ioctl.get_blob(fd, blob)):
        for code in with_it:
            modifiers[code].append(modifier)
    return {fourcc(code): tuple(found) for code, found in modifiers.items()}


def fourcc(code: int) -> str:
    """Return a format's code as its four characters."""
    return code.to_bytes(4, "little").decode("ascii", "replace")


def find_crtc(fd: int, connector: int) -> tuple[int, int]:
    """Return a CRTC for a connector, and its index: the one it is on, or one that is free."""
    crtcs = _ioctl.get_resources(fd).crtcs
    about, encoders, _ = _ioctl.get_connector(fd, connector)
    possible = 0
    for encoder in encoders:
        current, mask = _ioctl.get_encoder(fd, encoder)
        if current and encoder == about.encoder_id:
            return current, crtcs.index(current)
        possible |= mask
    usable = [crtc for index, crtc in enumerate(crtcs) if possible >> index & 1]
    free = [crtc for crtc in usable if not _ioctl.get_crtc(fd, crtc).timings]
    chosen = (free or usable)[0]
    return chosen, crtcs.index(chosen)

"""What a display device has: connectors with their modes, and planes with their formats."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum
from typing import NamedTuple

from dmabuf._record import record
from dmabuf.devices.kms import _ioctl
from dmabuf.image.formats import fourcc_text, from_drm

# Names of the types: drivers/gpu/drm/drm_connector.c
_CONNECTORS = (
    *("Unknown", "VGA", "DVI-I", "DVI-D", "DVI-A", "Composite", "SVIDEO", "LVDS", "Component"),
    *("DIN", "DP", "HDMI-A", "HDMI-B", "TV", "eDP", "Virtual", "DSI", "DPI", "Writeback", "SPI"),
    "USB",
)


class ConnectorStatus(Enum):
    """Whether a monitor is connected: enum drm_connector_status.

    Ask all connectors again to see changes:

        free = [c for c in display.connectors() if c.status is ConnectorStatus.DISCONNECTED]
    """

    CONNECTED = 1
    """A monitor is connected, or the driver can't tell and shows a picture anyway."""
    DISCONNECTED = 2
    """No monitor is connected."""
    UNKNOWN = 3
    """The driver can't tell."""


@record
class Mode(NamedTuple):
    """A size and a rate that a monitor can show, as the kernel reports it.

    The fastest mode of a size:

        size = image.width, image.height
        modes = [mode for mode in display.connector.modes if mode.size == size]
        display.show(image, mode=max(modes, key=lambda mode: mode.refresh))
    """

    name: str
    """The kernel's name: "1024x768"."""
    width: int
    """In pixels."""
    height: int
    """In pixels."""
    refresh: float
    """In frames per second."""
    preferred: bool
    """True for the mode that the monitor prefers, mostly its native size."""
    timings: bytes
    """The kernel's struct drm_mode_modeinfo, which is given back to it as it is."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.width, self.height

    def __str__(self) -> str:
        return f"{self.width}x{self.height}@{self.refresh:.4g}"


@record
class Connector(NamedTuple):
    """A socket for a monitor, as the kernel reports it.

    Every one of a device:

        for connector in display.connectors():
            print(connector.name, connector.status.name, *connector.modes)
    """

    name: str
    """As in sysfs: "HDMI-A-1", "Virtual-1"."""
    status: ConnectorStatus
    """Whether a monitor is connected."""
    modes: tuple[Mode, ...]
    """What the monitor can show, the best first; empty without a monitor."""
    size_mm: tuple[int, int]
    """Width and height of the picture in millimetres; (0, 0) if the monitor doesn't tell."""
    number: int
    """The kernel's id."""


class PlaneKind(Enum):
    """What a plane is for: enum drm_plane_type.

    How many pictures can be above one another:

        overlays = [p for p in display.planes() if p.kind is PlaneKind.OVERLAY]
    """

    OVERLAY = 0
    """For a picture above or below the main one, such as a video."""
    PRIMARY = 1
    """For the main picture."""
    CURSOR = 2
    """For the mouse pointer."""


@record
class DisplayPlane(NamedTuple):
    """The hardware that reads a framebuffer for the screen, as the kernel reports it.

    Its formats are those of the images that it shows:

        if image.format.name not in display.plane.formats:
            print("only", *display.plane.formats)
    """

    kind: PlaneKind
    """What it is for."""
    formats: Mapping[str, tuple[int, ...] | None]
    """The pixel formats that it shows, by their names in `dmabuf.image` ("XRGB8888"), each with the
    modifiers that go with it. None where the driver lists no modifiers: linear images, or what it
    and the exporting device agree on. A format that `dmabuf.image` does not know has DRM's code of
    four characters as its name."""
    number: int
    """The kernel's id."""
    crtcs: int
    """The CRTCs that it can be on: a bit for each, in the device's order."""


def read_connectors(fd: int) -> list[Connector]:
    """Ask for every connector; the kernel asks each monitor if this process is master."""
    return [_read_connector(fd, number) for number in _ioctl.get_resources(fd).connectors]


def _read_connector(fd: int, number: int) -> Connector:
    about, _, modes = _ioctl.get_connector(fd, number)
    kind = about.connector_type
    name = _CONNECTORS[kind] if kind < len(_CONNECTORS) else "Unknown"
    return Connector(
        f"{name}-{about.connector_type_id}",
        ConnectorStatus(about.connection),
        tuple(_decode_mode(timings) for timings in modes),
        (about.mm_width, about.mm_height),
        number,
    )


def _decode_mode(timings: bytes) -> Mode:
    info = _ioctl.mode_info(timings)
    pixels = info.htotal * info.vtotal * max(info.vscan, 1)
    if info.flags & _ioctl.DRM_MODE_FLAG_DBLSCAN:
        pixels *= 2
    refresh = info.clock * 1000 / pixels if pixels else 0.0
    if info.flags & _ioctl.DRM_MODE_FLAG_INTERLACE:
        refresh *= 2
    preferred = bool(info.type & _ioctl.DRM_MODE_TYPE_PREFERRED)
    name = _ioctl.mode_name(timings)
    return Mode(name, info.hdisplay, info.vdisplay, refresh, preferred, timings)


def read_planes(fd: int) -> Iterator[DisplayPlane]:
    """Yield each plane."""
    for number in _ioctl.get_planes(fd):
        about, codes = _ioctl.get_plane(fd, number)
        properties = _ioctl.get_properties(fd, number)
        kind = PlaneKind(properties["type"][1])
        formats = _read_formats(fd, codes, properties)
        yield DisplayPlane(kind, formats, number, about.possible_crtcs)


def _read_formats(
    fd: int, codes: list[int], properties: Mapping[str, tuple[int, int]]
) -> dict[str, tuple[int, ...] | None]:
    _, blob = properties.get("IN_FORMATS", (0, 0))
    if not blob:
        return {format_name(code): None for code in codes}
    modifiers: dict[int, list[int]] = {code: [] for code in codes}
    for modifier, with_it in _ioctl.formats_by_modifier(_ioctl.get_blob(fd, blob)):
        for code in with_it:
            modifiers[code].append(modifier)
    return {format_name(code): tuple(found) for code, found in modifiers.items()}


def format_name(code: int) -> str:
    """Return the name of a pixel format; its code of four characters where it is not known."""
    try:
        return from_drm(code).name
    except ValueError:
        return fourcc_text(code).strip("'")

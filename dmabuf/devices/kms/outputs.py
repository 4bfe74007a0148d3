"""The outputs of a display device: connectors with their modes, and planes with formats."""

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

        free = [c for c in display.connectors() if c.status is ConnectorStatus.DISCONNECTED]

    Call `Display.connectors()` again to see changes.
    """

    CONNECTED = 1
    """A monitor is connected, or the driver can't detect one and shows a picture anyway."""
    DISCONNECTED = 2
    """No monitor is connected."""
    UNKNOWN = 3
    """The driver can't detect whether a monitor is connected."""


@record
class Mode(NamedTuple):
    """A picture size and refresh rate that a monitor supports, as the kernel reports it.

        size = image.width, image.height
        modes = [mode for mode in display.connector.modes if mode.size == size]
        display.show(image, mode=max(modes, key=lambda mode: mode.refresh))

    The example sets the fastest mode of a size. `Connector.modes` lists them.
    """

    name: str
    """The kernel's name of the mode, such as "1024x768"."""
    width: int
    """The width of the picture in pixels."""
    height: int
    """The height of the picture in pixels."""
    refresh: float
    """The refresh rate in frames per second."""
    preferred: bool
    """True for the mode that the monitor prefers, usually its native size."""
    timings: bytes
    """The kernel's struct drm_mode_modeinfo as bytes, passed back to it unchanged."""

    @property
    def size(self) -> tuple[int, int]:
        """The width and the height in pixels."""
        return self.width, self.height

    def __str__(self) -> str:
        return f"{self.width}x{self.height}@{self.refresh:.4g}"


@record
class Connector(NamedTuple):
    """A connector for a monitor, as the kernel reports it.

        for connector in display.connectors():
            print(connector.name, connector.status.name, *connector.modes)

    `Display.connectors()` returns all of a device.
    """

    name: str
    """The name as in sysfs, such as "HDMI-A-1" or "Virtual-1"."""
    status: ConnectorStatus
    """Whether a monitor is connected."""
    modes: tuple[Mode, ...]
    """The modes that the monitor supports, the best first; empty without a monitor."""
    size_mm: tuple[int, int]
    """The width and height of the picture in millimetres; (0, 0) if the monitor does not report
    them."""
    number: int
    """The kernel's id of the connector."""


class PlaneKind(Enum):
    """The purpose of a plane: enum drm_plane_type.

        overlays = [p for p in display.planes() if p.kind is PlaneKind.OVERLAY]

    A plane is a layer of the picture, with a framebuffer of its own.
    """

    OVERLAY = 0
    """For a picture above or below the main one, such as a video."""
    PRIMARY = 1
    """For the main picture."""
    CURSOR = 2
    """For the mouse pointer."""


@record
class DisplayPlane(NamedTuple):
    """A plane as the kernel reports it: the hardware that reads a framebuffer for the screen.

        if image.format.name not in display.plane.formats:
            print("only", *display.plane.formats)

    `Display.planes()` lists them, and `Display.plane` is the one that shows the images.
    """

    kind: PlaneKind
    """The purpose of the plane."""
    formats: Mapping[str, tuple[int, ...] | None]
    """The pixel formats that the plane supports, by their names in `dmabuf.image` ("XRGB8888"),
    each with the modifiers that it supports for them. None in place of the modifiers if the
    driver lists none: then use linear images, or a layout on which it and the exporter agree. A
    format that `dmabuf.image` does not know is listed by its four-character DRM code."""
    number: int
    """The kernel's id of the plane."""
    crtcs: int
    """The CRTCs that can use the plane: one bit for each, in the device's order."""


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

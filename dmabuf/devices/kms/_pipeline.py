"""What lies between a framebuffer and a monitor, chosen when a display is opened."""

from __future__ import annotations

import contextlib
import errno
import os
from typing import NamedTuple

from dmabuf.devices.drm import Device
from dmabuf.devices.kms import _ioctl
from dmabuf.devices.kms.outputs import (
    Connector,
    ConnectorStatus,
    DisplayPlane,
    PlaneKind,
    read_connectors,
    read_planes,
)
from dmabuf.errors import os_error


class Pipeline(NamedTuple):
    """A plane, which a CRTC scans out to a connector."""

    connector: Connector
    crtc: int
    plane: DisplayPlane


def choose_pipeline(device: Device, fd: int, connector: str | None) -> Pipeline:
    """Return the pipeline of a connector by its name, or of the first with a monitor.

    OSError (ENODEV) if no connector has one. Modes and planes depend on what the client says that
    it can do (DRM_CLIENT_CAP): say it before.
    """
    chosen = _choose_connector(device, read_connectors(fd), connector)
    crtc, index = _choose_crtc(device, fd, chosen)
    for plane in read_planes(fd):
        if plane.kind is PlaneKind.PRIMARY and plane.crtcs >> index & 1:
            return Pipeline(chosen, crtc, plane)
    raise os_error(errno.ENODEV, f"{device.path} ({device.driver}) has no plane for {chosen.name}")


def restore(fd: int, pipeline: Pipeline, shown: _ioctl.Crtc) -> None:
    """Have a pipeline show again what it showed, or nothing where that is gone.

    Not where another program is master by now, or without the device.
    """
    with contextlib.suppress(OSError):
        try:
            connectors = [pipeline.connector.number] if shown.timings else []
            _ioctl.set_crtc(fd, pipeline.crtc, connectors, shown, [])
        except OSError as error:
            if error.errno in (errno.ENODEV, errno.EACCES):
                raise
            _ioctl.set_crtc(fd, pipeline.crtc, [], _ioctl.OFF, [])


def require_display(device: Device, fd: int) -> None:
    """Raise OSError unless a device is a display (ENODEV), and this process its master (EBUSY)."""
    try:
        there = _ioctl.get_resources(fd)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EOPNOTSUPP, errno.EINVAL):
            raise
        there = _ioctl.Resources([], [])
    if there.crtcs and there.connectors:
        _require_master(device, fd)
        return
    if os.path.basename(device.path).startswith("renderD"):
        what = f"{device.path} is not a display but a render node; open /dev/dri/card…"
        raise os_error(errno.ENODEV, what)
    raise os_error(
        errno.ENODEV,
        f"{device.path} ({device.driver}) is not a display; see dmabuf.devices.find()",
    )


def _require_master(device: Device, fd: int) -> None:
    try:
        _ioctl.auth_magic(fd, 0)  # nobody's
    except OSError as error:
        if error.errno != errno.EACCES:
            return
        raise os_error(
            errno.EBUSY,
            f"{device.path}: another program is master of this display, such as a desktop; "
            f"end it, or switch to another virtual terminal",
        ) from None


def _choose_connector(device: Device, connectors: list[Connector], name: str | None) -> Connector:
    if name is not None:
        for connector in connectors:
            if connector.name == name:
                return connector
        names = ", ".join(connector.name for connector in connectors)
        raise ValueError(f"{device.path} has no connector {name!r}; it has {names}")
    for connector in connectors:
        if connector.status is ConnectorStatus.CONNECTED and connector.modes:
            return connector
    states = ", ".join(f"{one.name} is {one.status.name.lower()}" for one in connectors)
    raise os_error(
        errno.ENODEV, f"{device.path} ({device.driver}) has no monitor: {states}; connect one"
    )


def _choose_crtc(device: Device, fd: int, connector: Connector) -> tuple[int, int]:
    """Return a CRTC for a connector, and its index: the one it is on, or one that is free."""
    crtcs = _ioctl.get_resources(fd).crtcs
    about, encoders, _ = _ioctl.get_connector(fd, connector.number)
    possible = 0
    for encoder in encoders:
        current, mask = _ioctl.get_encoder(fd, encoder)
        if current and encoder == about.encoder_id:
            return current, crtcs.index(current)
        possible |= mask
    usable = [crtc for index, crtc in enumerate(crtcs) if possible >> index & 1]
    free = [crtc for crtc in usable if not _ioctl.get_crtc(fd, crtc).timings]
    if not usable:
        what = f"{device.path} ({device.driver}) has no CRTC that can drive {connector.name}"
        raise os_error(errno.ENODEV, what)
    chosen = (free or usable)[0]
    return chosen, crtcs.index(chosen)

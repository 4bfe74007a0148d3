"""Displays: images on a screen, by kernel mode setting (KMS), without a copy."""

from dmabuf.devices.kms.display import Display
from dmabuf.devices.kms.flip import Flip
from dmabuf.devices.kms.outputs import Connector, ConnectorStatus, Mode, Plane, PlaneKind

__all__ = [
    "Connector",
    "ConnectorStatus",
    "Display",
    "Flip",
    "Mode",
    "Plane",
    "PlaneKind",
]

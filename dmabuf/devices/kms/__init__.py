"""Displays: show images on a screen by kernel mode setting (KMS), without a copy."""

from dmabuf.devices.kms.display import Display
from dmabuf.devices.kms.flip import Flip
from dmabuf.devices.kms.outputs import Connector, ConnectorStatus, DisplayPlane, Mode, PlaneKind

__all__ = [
    "Connector",
    "ConnectorStatus",
    "Display",
    "DisplayPlane",
    "Flip",
    "Mode",
    "PlaneKind",
]

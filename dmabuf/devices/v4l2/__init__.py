"""V4L2 devices: cameras, outputs, codecs and other memory-to-memory devices, on dma-bufs.

    with v4l2.Capture("/dev/video0") as camera:
        format = camera.set_format("XRGB8888", 640, 360)
        buffers = [dmabuf.allocate(format.sizeimage[0]) for _ in range(4)]
        with camera.stream(buffers) as frames:
            for frame in frames:
                with frame:
                    frame.image.save("frame.png")

Without `buffers`, the device allocates the memory, which is exported as `Buffer`s. Follows
Documentation/userspace-api/media/v4l in the kernel's sources.
"""

from typing import TYPE_CHECKING

from dmabuf._lazy import attributes

if TYPE_CHECKING:
    from dmabuf.devices.v4l2._file import inspect
    from dmabuf.devices.v4l2._values import ControlValue
    from dmabuf.devices.v4l2.codec import Decoder, Encoder
    from dmabuf.devices.v4l2.coding import Coding
    from dmabuf.devices.v4l2.colorimetry import (
        Colorspace,
        Field,
        Quantization,
        TransferFunction,
        YCbCrEncoding,
    )
    from dmabuf.devices.v4l2.control_ids import ControlId
    from dmabuf.devices.v4l2.controls import Control, ControlFlag, ControlType, Timings
    from dmabuf.devices.v4l2.device import Capture, Device, Output
    from dmabuf.devices.v4l2.events import ControlChange, Event, Events, EventType
    from dmabuf.devices.v4l2.format import Format, FormatInfo, FrameRate, FrameSize
    from dmabuf.devices.v4l2.frame import Frame, FrameFlag
    from dmabuf.devices.v4l2.info import Memory, V4l2Info
    from dmabuf.devices.v4l2.selection import Rectangle, SelectionTarget
    from dmabuf.devices.v4l2.stream import OutputStream, Stream

__all__ = [
    "Capture",
    "Coding",
    "Colorspace",
    "Control",
    "ControlChange",
    "ControlFlag",
    "ControlId",
    "ControlType",
    "ControlValue",
    "Decoder",
    "Device",
    "Encoder",
    "Event",
    "EventType",
    "Events",
    "Field",
    "Format",
    "FormatInfo",
    "Frame",
    "FrameFlag",
    "FrameRate",
    "FrameSize",
    "Memory",
    "Output",
    "OutputStream",
    "Quantization",
    "Rectangle",
    "SelectionTarget",
    "Stream",
    "Timings",
    "TransferFunction",
    "V4l2Info",
    "YCbCrEncoding",
    "inspect",
]

# Imported when they are first used: who only looks for cameras needs none of them.
__getattr__, __dir__ = attributes(
    __name__,
    {
        "Capture": "device",
        "Coding": "coding",
        "Colorspace": "colorimetry",
        "Control": "controls",
        "ControlChange": "events",
        "ControlFlag": "controls",
        "ControlId": "control_ids",
        "ControlType": "controls",
        "ControlValue": "_values",
        "Decoder": "codec",
        "Device": "device",
        "Encoder": "codec",
        "Event": "events",
        "EventType": "events",
        "Events": "events",
        "Field": "colorimetry",
        "Format": "format",
        "FormatInfo": "format",
        "Frame": "frame",
        "FrameFlag": "frame",
        "FrameRate": "format",
        "FrameSize": "format",
        "Memory": "info",
        "Output": "device",
        "OutputStream": "stream",
        "Quantization": "colorimetry",
        "Rectangle": "selection",
        "SelectionTarget": "selection",
        "Stream": "stream",
        "Timings": "controls",
        "TransferFunction": "colorimetry",
        "V4l2Info": "info",
        "YCbCrEncoding": "colorimetry",
        "inspect": "_file",
    },
)

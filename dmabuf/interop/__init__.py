"""Other people's objects, without a copy: each module comes when it is first used.

with dmabuf.interop.gstreamer.Source("/tmp/pipeline.sock") as source:     # no GStreamer needed
    for frame in source:
        with frame: ...
"""

from typing import TYPE_CHECKING

from dmabuf._lazy import attributes

if TYPE_CHECKING:
    from dmabuf.interop import gstreamer

__all__ = ["gstreamer"]

__getattr__ = attributes(__name__, {"gstreamer": "gstreamer"})


def __dir__() -> list[str]:
    return __all__

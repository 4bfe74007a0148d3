"""Images and fences for other libraries, without a copy. Each module is imported on first use.

    with dmabuf.interop.gstreamer.Source("/tmp/pipeline.sock") as source:  # no GStreamer needed
        for frame in source:
            with frame: ...

    with dmabuf.interop.egl.Context(), dmabuf.interop.egl.import_image(image) as imported:
        texture = imported.texture()  # for any library that draws with OpenGL

The guides are docs/gstreamer.md, docs/opengl.md, docs/vulkan.md, docs/wayland.md and docs/media.md.
"""

from typing import TYPE_CHECKING

from dmabuf._lazy import attributes

if TYPE_CHECKING:
    from dmabuf.interop import egl, ffmpeg, gstreamer, libcamera, vulkan, wayland

__all__ = ["egl", "ffmpeg", "gstreamer", "libcamera", "vulkan", "wayland"]

__getattr__, __dir__ = attributes(__name__, {name: name for name in __all__})

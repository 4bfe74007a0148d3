"""Other people's objects, without a copy: each module comes when it is first used.

    with dmabuf.interop.gstreamer.Source("/tmp/pipeline.sock") as source:  # no GStreamer needed
        for frame in source:
            with frame: ...

    with dmabuf.interop.egl.Context(), dmabuf.interop.egl.import_image(image) as imported:
        texture = imported.texture()  # for whatever draws with OpenGL

docs/gstreamer.md and docs/opengl.md are guides.
"""

from typing import TYPE_CHECKING

from dmabuf._lazy import attributes

if TYPE_CHECKING:
    from dmabuf.interop import egl, ffmpeg, gstreamer, libcamera, vulkan, wayland

__all__ = ["egl", "ffmpeg", "gstreamer", "libcamera", "vulkan", "wayland"]

__getattr__ = attributes(__name__, {name: name for name in __all__})


def __dir__() -> list[str]:
    return __all__

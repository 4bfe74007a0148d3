"""FFmpeg's DRM_PRIME frames as images, and images as its frames, without a copy.

    with dmabuf.interop.ffmpeg.descriptor(image) as drm:         # an AVDRMFrameDescriptor
        frame.data[0] = drm.address                              # by ctypes, cffi or C
    with dmabuf.interop.ffmpeg.image(frame.data[0], frame.width, frame.height) as image: ...

libavutil is not needed: the descriptor is plain memory. Each side has its own file descriptors.
"""

from dmabuf.interop.ffmpeg.frame import Descriptor, descriptor, image

__all__ = ["Descriptor", "descriptor", "image"]

"""An image in FFmpeg, without a copy: as a DRM_PRIME frame, which libavutil maps.

    python examples/image_in_ffmpeg.py [--device /dev/dri/renderD128]

PyAV gives no pointers to frames, so this program calls libavutil 59 (FFmpeg 7) by ctypes, as a C
program would. The device must import dma-bufs; vgem does, and needs no hardware.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import glob
import os
from collections.abc import Iterator
from ctypes import POINTER, byref, c_char_p, c_int, c_int64, c_size_t, c_void_p

import dmabuf
from dmabuf.interop import ffmpeg

LIBRARY = "libavutil.so.59"
WIDTH, HEIGHT = 64, 48
_MAP_READ = 1
_NOPTS = -(1 << 63)
_FREE = ctypes.CFUNCTYPE(None, c_void_p, c_void_p)


class _Buffer(ctypes.Structure):
    """An AVBufferRef."""

    _fields_ = (("buffer", c_void_p), ("data", c_void_p), ("size", c_size_t))


class _Frame(ctypes.Structure):
    """An AVFrame, as far as it is used."""

    _fields_ = (
        ("data", c_void_p * 8),
        ("linesize", c_int * 8),
        ("extended_data", c_void_p),
        ("width", c_int),
        ("height", c_int),
        ("nb_samples", c_int),
        ("format", c_int),
        ("key_frame_to_sample_aspect_ratio", c_int * 4),
        ("pts", c_int64),
        ("pkt_dts", c_int64),
        ("time_base", c_int * 2),
        ("quality", c_int),
        ("opaque", c_void_p),
        ("repeat_pict_to_sample_rate", c_int * 5),
        ("buf", POINTER(_Buffer) * 8),
        ("extended_buf", c_void_p),
        ("nb_extended_buf", c_int),
        ("side_data", c_void_p),
        ("nb_side_data", c_int),
        ("flags_to_chroma_location", c_int * 6),
        ("best_effort_timestamp", c_int64),
        ("pkt_pos", c_int64),
        ("metadata", c_void_p),
        ("decode_error_flags", c_int),
        ("pkt_size", c_int),
        ("hw_frames_ctx", POINTER(_Buffer)),
    )


class _FramesContext(ctypes.Structure):
    """An AVHWFramesContext."""

    _fields_ = (
        ("class_to_pool", c_void_p * 7),
        ("initial_pool_size", c_int),
        ("format", c_int),
        ("sw_format", c_int),
        ("width", c_int),
        ("height", c_int),
    )


_keep = _FREE(lambda *_: None)  # the descriptor is its maker's


def _library() -> ctypes.CDLL:
    lib = ctypes.CDLL(LIBRARY)
    buffers, frames = POINTER(POINTER(_Buffer)), POINTER(POINTER(_Frame))
    for name, result, arguments in (
        ("av_get_pix_fmt", c_int, (c_char_p,)),
        ("av_hwdevice_find_type_by_name", c_int, (c_char_p,)),
        ("av_hwdevice_ctx_create", c_int, (buffers, c_int, c_char_p, c_void_p, c_int)),
        ("av_hwframe_ctx_alloc", POINTER(_Buffer), (POINTER(_Buffer),)),
        ("av_hwframe_ctx_init", c_int, (POINTER(_Buffer),)),
        ("av_hwframe_map", c_int, (POINTER(_Frame), POINTER(_Frame), c_int)),
        ("av_buffer_create", POINTER(_Buffer), (c_void_p, c_size_t, _FREE, c_void_p, c_int)),
        ("av_buffer_ref", POINTER(_Buffer), (POINTER(_Buffer),)),
        ("av_buffer_unref", None, (buffers,)),
        ("av_frame_alloc", POINTER(_Frame), ()),
        ("av_frame_free", None, (frames,)),
    ):
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments
    return lib


def _check(result: int) -> None:
    if result < 0:
        raise OSError(-result, f"FFmpeg: {os.strerror(-result)}")


@contextlib.contextmanager
def mapped(address: int, size: int, width: int, height: int, node: str) -> Iterator[_Frame]:
    """Give the AVFrame in NV12 as which FFmpeg maps a DRM_PRIME frame with this descriptor."""
    lib = _library()
    device = POINTER(_Buffer)()
    kind = lib.av_hwdevice_find_type_by_name(b"drm")
    _check(lib.av_hwdevice_ctx_create(byref(device), kind, node.encode(), None, 0))
    frames = lib.av_hwframe_ctx_alloc(device)
    context = ctypes.cast(frames.contents.data, POINTER(_FramesContext)).contents
    context.format = lib.av_get_pix_fmt(b"drm_prime")
    context.sw_format = lib.av_get_pix_fmt(b"nv12")
    context.width, context.height = width, height
    _check(lib.av_hwframe_ctx_init(frames))
    source, target = lib.av_frame_alloc(), lib.av_frame_alloc()
    frame = source.contents
    if (frame.format, frame.pts, frame.best_effort_timestamp) != (-1, _NOPTS, _NOPTS):
        raise SystemExit("the layout of an AVFrame above is not this library's")
    frame.format, frame.width, frame.height = context.format, width, height
    frame.data[0] = address
    frame.buf[0] = lib.av_buffer_create(address, size, _keep, None, 0)
    frame.hw_frames_ctx = lib.av_buffer_ref(frames)
    target.contents.format = context.sw_format
    try:
        _check(lib.av_hwframe_map(target, source, _MAP_READ))
        yield target.contents
    finally:
        lib.av_frame_free(byref(target))
        lib.av_frame_free(byref(source))
        lib.av_buffer_unref(byref(frames))
        lib.av_buffer_unref(byref(device))


def main() -> None:
    """Describe an image to FFmpeg, and compare what that sees."""
    parser = argparse.ArgumentParser(description="Map an image of ours by FFmpeg.")
    nodes = sorted(glob.glob("/dev/dri/renderD*"))
    parser.add_argument("--device", default=nodes[0] if nodes else None, help="a DRM node")
    options = parser.parse_args()
    with dmabuf.Image.allocate("NV12", WIDTH, HEIGHT, stride_align=64) as image:
        with image.write() as (luma, chroma):
            luma[:] = range(WIDTH)
            chroma[:] = 128
        with (
            ffmpeg.descriptor(image) as described,
            mapped(described.address, described.size, WIDTH, HEIGHT, options.device) as frame,
        ):
            stride, first_row = frame.linesize[0], ctypes.string_at(frame.data[0], WIDTH)
        print(f"image   {image}")
        print(f"FFmpeg  {stride} bytes a row, which begins with {list(first_row[:8])}")


if __name__ == "__main__":
    main()

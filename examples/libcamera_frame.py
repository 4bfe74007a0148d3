"""A frame of libcamera's first camera, in our own dma-heap buffer, saved as a picture.

    python examples/libcamera_frame.py frame.png

Needs libcamera with its Python bindings (python3-libcamera) and a camera that it supports: those of
Raspberry Pis and of many laptops, and webcams.
"""

from __future__ import annotations

import select
import sys

import libcamera as library

import dmabuf
from dmabuf.interop import libcamera

SECONDS = 10


def capture(manager: library.CameraManager, camera: library.Camera, path: str) -> None:
    """Have a camera fill an image, and save that."""
    configuration = camera.generate_configuration([library.StreamRole.Viewfinder])
    wanted = configuration.at(0)
    wanted.pixel_format = library.PixelFormat("NV12")
    configuration.validate()  # which puts in what the camera can give instead
    camera.configure(configuration)
    format, size, stride = str(wanted.pixel_format), wanted.size, wanted.stride
    with dmabuf.Image.allocate(format, size.width, size.height, stride_align=stride) as image:
        (frame_buffer,) = libcamera.frame_buffers([image])
        request = camera.create_request()
        request.add_buffer(wanted.stream, frame_buffer)
        camera.start()
        camera.queue_request(request)
        try:
            if not select.select([manager.event_fd], [], [], SECONDS)[0]:
                raise SystemExit(f"no frame within {SECONDS} s")
            manager.get_ready_requests()
        finally:
            camera.stop()
        image.save(path)
        print(f"{camera.id}: {image} in {image.buffers[0]}")


def main(path: str) -> None:
    """Take the first camera."""
    manager = library.CameraManager.singleton()
    if not manager.cameras:
        raise SystemExit("libcamera knows no camera here")
    camera = manager.cameras[0]
    camera.acquire()
    try:
        capture(manager, camera, path)
    finally:
        camera.release()


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Pictures for a display, and what the screen of our virtual machine shows of them."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy

import dmabuf
from dmabuf.devices.kms import Display
from helpers import drm

SIZE = 640, 480
"""What every monitor can show."""
DRIVERS = ("bochs-drm", "cirrus", "cirrus-qemu")
"""Those of the display that QEMU gives pictures of."""
_names = (f"screen-{number}.png" for number in itertools.count())


def path() -> str | None:
    """Return the node of the display that pictures are taken of, None on other machines."""
    return next(filter(None, map(drm.find, DRIVERS)), None)


@contextmanager
def image(allocate: Callable[..., dmabuf.Buffer], *, size=SIZE) -> Iterator[dmabuf.Image]:
    """Give an image for a display, on a buffer of its own."""
    with allocate(size[0] * size[1] * 4) as buffer:
        yield dmabuf.Image(buffer, "XRGB8888", *size)


def picture(seed: int) -> numpy.ndarray:
    """Return a picture that no other seed gives: rows of columns of red, green and blue."""
    columns = numpy.arange(SIZE[0]) // 16 * 8
    rows = numpy.arange(SIZE[1])[:, None] // 16 * 8
    pixels = numpy.empty((SIZE[1], SIZE[0], 3), "u1")
    pixels[..., 0], pixels[..., 1], pixels[..., 2] = columns & 0xFF, rows & 0xFF, seed
    return pixels


def paint(image: dmabuf.Image, seed: int) -> numpy.ndarray:
    """Fill an image with a picture, and return that."""
    pixels = picture(seed)
    with image.write() as planes:
        if image.format.name == "RGB565":
            red, green, blue = (pixels[..., n].astype("u2") for n in range(3))
            planes[0][:] = red >> 3 << 11 | green >> 2 << 5 | blue >> 3
        else:
            planes[0][..., :3] = pixels[..., ::-1]
    return pixels


def pixels() -> numpy.ndarray:
    """Return the picture on the screen: rows of columns of red, green and blue."""
    from PIL import Image

    name = next(_names)
    with open(os.environ["DMABUF_VM_SCREENDUMP"], "r+b", buffering=0) as port:
        port.write(f"{name}\n".encode())
        answer = port.readline()
    assert answer == b"ok\n", answer
    with Image.open(Path(os.environ["DMABUF_VM_OUT"], name)) as dumped:
        return numpy.asarray(dumped.convert("RGB"))


def captured(display: Display, target: dmabuf.Image) -> numpy.ndarray:
    """Return what a display with a writeback connector shows, captured into an image."""
    with display.capture(target, timeout=10) as fence:
        assert fence.wait(10)
        assert fence.error is None
    return target.to_rgb()

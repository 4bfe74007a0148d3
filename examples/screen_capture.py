"""A screenshot: what a display shows, written into memory by the display itself.

    python examples/screen_capture.py [--display /dev/dri/card0] screen.png

Shows a picture first, because a program can capture only what it shows itself. Needs a display with
a writeback connector, such as that of the Raspberry Pi and of many SoCs; without hardware use vkms
(modprobe vkms).
"""

from __future__ import annotations

import argparse

import numpy

import dmabuf
from dmabuf.devices.kms import Display


def draw(image: dmabuf.Image) -> None:
    """Fill an image with colours."""
    with image.write() as (pixels,):
        rows, columns = numpy.ogrid[: image.height, : image.width]
        pixels[..., 0] = 64
        pixels[..., 1] = rows * 255 // image.height
        pixels[..., 2] = columns * 255 // image.width


def main() -> None:
    """Show, capture, and save."""
    parser = argparse.ArgumentParser(description="Capture what a display shows.")
    parser.add_argument("path", metavar="PICTURE")
    parser.add_argument("--display", metavar="NODE", help="by default the first")
    options = parser.parse_args()
    with Display(options.display) as display:
        size = display.connector.modes[0].size
        with (
            dmabuf.Image.allocate("XRGB8888", *size) as shown,
            dmabuf.Image.allocate("XRGB8888", *size) as captured,
        ):
            draw(shown)
            display.show(shown).wait()
            with display.capture(captured) as fence:
                fence.wait()
            captured.save(options.path)
            print(f"display  {display.path}, {display.driver}, {display.mode}")
            print(f"capture  {captured}")


if __name__ == "__main__":
    main()

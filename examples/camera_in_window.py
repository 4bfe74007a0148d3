"""A camera in a window of a desktop, without a copy: from the camera's buffers to the compositor.

The compositor's GPU reads each frame in the camera's buffer. The camera gets a frame back once the
flip of the next one is done. Needs a camera and a Wayland compositor with a common pixel format,
and no library. Closing the window ends the program.

    python examples/camera_in_window.py [--frames 100] [--camera /dev/video0]
"""

from __future__ import annotations

import argparse
import asyncio
from contextlib import ExitStack

from dmabuf.devices import v4l2
from dmabuf.interop import wayland


def agree(camera: v4l2.Capture, window: wayland.Window) -> v4l2.Format:
    """Set the camera to a format that the compositor shows, YUV first: it is what cameras have."""
    offered = [about.format for about in camera.formats() if about.format in window.formats]
    if not offered:
        raise SystemExit("the camera has no format that the compositor shows")
    best = max(offered, key=lambda format: format is not None and format.model == "YUV")
    assert best is not None
    return camera.set_format(best, *window.size)


async def show(window: wayland.Window, frames: v4l2.Stream, count: int | None) -> int:
    """Show frames until so many are shown; return how many."""
    number = 0
    with ExitStack() as before:
        async for frame in frames:
            with ExitStack() as this:
                this.enter_context(frame)
                await window.show(frame.image)
                before.close()  # the compositor reads that one no more: it goes back
                before.enter_context(this.pop_all())
            number += 1
            if number == count:
                break
    return number


async def until_closed(window: wayland.Window) -> None:
    """Wait until the user closes the window."""
    async for event in window:
        if event.kind == "close":
            return


async def run(camera: v4l2.Capture, window: wayland.Window, count: int | None) -> None:
    """Show the camera, and tell how that went."""
    format = agree(camera, window)
    with camera.stream(count=4) as frames:
        loop = asyncio.get_running_loop()
        showing = loop.create_task(show(window, frames, count))
        closing = loop.create_task(until_closed(window))
        begun = loop.time()
        tasks = (showing, closing)
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        print(f"camera   {camera.device.path}, {camera.device.info.card}, {format.format}")
        print(f"window   {format.width}x{format.height}, explicit sync {window.explicit_sync}")
        if showing in done:
            rate = showing.result() / (loop.time() - begun)
            print(f"rate     {rate:.1f} frames per second, without a copy")


def main() -> None:
    """Take the options, and run."""
    parser = argparse.ArgumentParser(description="Show a camera in a window.")
    parser.add_argument("--frames", type=int, metavar="N", help="by default until it is closed")
    parser.add_argument("--camera", metavar="NODE", help="by default the first")
    options = parser.parse_args()
    with (
        v4l2.Capture(options.camera or v4l2.Capture.find()) as camera,
        wayland.Window(640, 480, title="camera") as window,
    ):
        asyncio.run(run(camera, window, options.frames))


if __name__ == "__main__":
    main()

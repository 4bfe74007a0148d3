"""`dmabuf-alloc receive PATH`: get what `send`, or any publisher, gives; tell its rate."""

from __future__ import annotations

import argparse
import os
import time
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dmabuf._whole_file import whole_file
from dmabuf.cli.console import described
from dmabuf.cli.console.failure import Failure, UsageError, one_line
from dmabuf.cli.console.hold import is_stop_asked, stop_signals_blocked, wait_for_stop
from dmabuf.cli.console.output import Output
from dmabuf.cli.console.progress import status
from dmabuf.cli.console.rate import Meter
from dmabuf.cli.console.values import parse_count, parse_depth, parse_seconds, parse_socket, typed

if TYPE_CHECKING:
    from dmabuf.share import SharedFrame, Subscriber

SUMMARY = "Receive buffers or frames from another process, and measure their rate."
EXAMPLES = (
    ("receive /run/camera.sock", "the rate and drops of a camera service"),
    ("receive /run/camera.sock --count 1 --save frame.png", "save one picture"),
    ("receive /tmp/buffer --save copy.raw", "save a buffer's bytes"),
)
_EPILOG = """\
PATH is the socket of `dmabuf-alloc send PATH` or of any dmabuf.share.Publisher, or @NAME. Only the
socket's permission is needed. --save saves the first frame: as a picture (.png, .jpg, ...), or its
bytes (.raw).
"""
_LOOK = 0.2  # seconds until the next look at whether it is to stop


def add(parser: argparse.ArgumentParser) -> None:
    """Declare its arguments."""
    parser.epilog = _EPILOG
    add = parser.add_argument
    add("path", metavar="PATH", type=typed(parse_socket), help="the publisher's socket")
    add("--count", metavar="N", type=typed(parse_count), help="end after N frames")
    add("--save", metavar="FILE", help="save the first frame: frame.png, or frame.raw")
    add(
        "--policy",
        choices=("latest", "queue", "every"),
        default="latest",
        help="which frames to take if they are too fast (latest): docs/publishing.md",
    )
    add(
        "--depth",
        metavar="N",
        type=typed(parse_depth),
        default=1,
        help="the number of frames that --policy queue keeps (1)",
    )
    add(
        "--timeout",
        metavar="SECONDS",
        type=typed(parse_seconds),
        help="how long to wait for the publisher (0) and for each frame (no limit)",
    )
    hold = parser.add_mutually_exclusive_group()
    hold.add_argument(
        "--hold", action="store_true", help="keep the first frame until SIGINT or SIGTERM"
    )
    hold.add_argument(
        "--hold-for", metavar="SECONDS", type=typed(parse_seconds), help="the same, for this time"
    )


def run(arguments: argparse.Namespace, output: Output) -> None:
    """Receive until it is done or told to stop."""
    if arguments.save is not None:
        _check_ending(arguments.save)
    with ExitStack() as stack:
        stack.enter_context(stop_signals_blocked())
        subscriber = _connected(arguments)
        if subscriber is not None:
            stack.enter_context(subscriber)
            _receive(subscriber, arguments, stack, output)


def _check_ending(path: str) -> None:
    """Refuse a file that can't be written before anything is waited for.

    What a picture needs is imported here, and not while a frame is held.
    """
    if path.endswith(".raw"):
        return
    try:
        from PIL import Image
    except ImportError:
        raise Failure(
            "a picture needs Pillow: pip install dmabuf[image]; or --save x.raw"
        ) from None
    if Path(path).suffix.lower() not in Image.registered_extensions():
        raise UsageError(f"{path!r} does not end as a picture; write frame.png, or frame.raw")
    import_module("numpy")


def _connected(arguments: argparse.Namespace) -> Subscriber | None:
    """Return a subscriber, or None if told to stop; the publisher may come later."""
    from dmabuf.share import Subscriber

    deadline = time.monotonic() + (arguments.timeout or 0)
    while True:
        try:
            return Subscriber(
                arguments.path, depth=arguments.depth, policy=arguments.policy, start="last"
            )
        except ValueError as error:
            raise UsageError(str(error)) from None
        except (FileNotFoundError, ConnectionRefusedError) as error:
            if time.monotonic() >= deadline:
                what = f"no publisher at {arguments.path}; start one: dmabuf-alloc send"
                raise Failure(what, error.errno) from None
        if is_stop_asked():
            return None
        time.sleep(min(_LOOK, max(deadline - time.monotonic(), 0)))


def _receive(
    subscriber: Subscriber, arguments: argparse.Namespace, stack: ExitStack, output: Output
) -> None:
    meter = Meter()
    fields: dict[str, Any] = {"path": arguments.path, "image": None, "buffers": [], "saved": None}
    held = None
    try:
        with status() as show:
            while meter.frames != arguments.count:
                try:
                    frame = _next(subscriber, arguments)
                except EOFError:
                    if meter.frames:
                        break
                    raise Failure("the publisher closed before it sent anything") from None
                if frame is None:
                    break
                with ExitStack() as given:
                    given.enter_context(frame)
                    meter.count(frame.dropped)
                    if meter.frames == 1:
                        fields |= _first(frame, arguments, output)
                        meter.restart()
                        if arguments.hold or arguments.hold_for is not None:
                            held = stack.enter_context(given.pop_all())
                            break
                show(lambda: str(meter))
    except ConnectionError as error:
        if meter.frames:
            output.line(str(meter))
        raise Failure(
            f"the publisher died, or disconnected this receiver: {one_line(error)}",
            error.errno,
        ) from None
    output.line(str(meter))
    seconds = arguments.hold_for
    hold = None if held is None else {"pid": os.getpid(), "seconds": seconds}
    if held is not None:
        until = "until" if seconds is None else f"for {seconds:g} s, or until"
        output.line(f"holding {until} Ctrl-C or kill {os.getpid()}")
    output.document(**fields, **meter.document(), hold=hold)
    output.flush()
    if held is not None:
        wait_for_stop(seconds)
        stack.close()
        output.line("released")


def _next(subscriber: Subscriber, arguments: argparse.Namespace) -> SharedFrame | None:
    """Return the next frame; None if told to stop; EOFError at the publisher's end."""
    timeout = arguments.timeout
    deadline = None if timeout is None else time.monotonic() + timeout
    while not is_stop_asked():
        try:
            return subscriber.frame(_LOOK)
        except TimeoutError:
            if deadline is not None and time.monotonic() >= deadline:
                raise Failure(f"no frame from {arguments.path} within {timeout:g} s") from None
    return None


def _first(frame: SharedFrame, arguments: argparse.Namespace, output: Output) -> dict[str, Any]:
    """Show what comes, save it if that was asked for, and return its fields of the JSON."""
    image = _image(frame)
    buffers = list(enumerate(frame.buffers))
    title = f"From {arguments.path}"
    if image is not None:
        title += f": {image.format.name} {image.width}x{image.height}"
    output.table(title, described.COLUMNS, [described.row(*numbered) for numbered in buffers])
    output.flush()
    if arguments.save is not None:
        _save(frame, arguments.save)
        output.line(f"saved {arguments.save}")
        output.flush()
    return {
        "image": image
        and {"format": image.format.name, "width": image.width, "height": image.height},
        "buffers": [described.document(*numbered) for numbered in buffers],
        "saved": arguments.save,
    }


def _image(frame: SharedFrame) -> Any:
    try:
        return frame.image
    except ValueError:
        return None


def _save(frame: SharedFrame, path: str) -> None:
    try:
        if path.endswith(".raw"):
            with whole_file(path) as file:
                for buffer, used in zip(frame.buffers, frame.bytes_used, strict=True):
                    with buffer.read() as memory:
                        file.write(memory[:used])
            return
        image = _image(frame)
        if image is None:
            raise Failure("the frame is not a picture that can be read; save it as .raw")
        image.save(path)
    except ValueError as error:
        raise Failure(f"{path}: {error}") from None
    except OSError as error:
        raise Failure(f"{path}: {error.strerror or error}", error.errno) from None

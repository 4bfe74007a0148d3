"""`dmabuf-alloc send PATH`: give a buffer, or a camera's frames, to other processes."""

from __future__ import annotations

import argparse
import os
import stat
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from dmabuf import _memory
from dmabuf.buffer import Buffer, checked_name
from dmabuf.cli.checks import contents
from dmabuf.cli.checks.contents import FileContent
from dmabuf.cli.checks.exporters import allocator, is_contiguous
from dmabuf.cli.console import described
from dmabuf.cli.console.failure import UsageError
from dmabuf.cli.console.hold import is_stop_asked, stop_signals_blocked
from dmabuf.cli.console.output import Output
from dmabuf.cli.console.progress import progress, status
from dmabuf.cli.console.rate import Meter
from dmabuf.cli.console.size import exact, parse_size
from dmabuf.cli.console.values import (
    parse_count,
    parse_dimensions,
    parse_heap,
    parse_mode,
    parse_name,
    parse_seconds,
    parse_socket,
    typed,
)

if TYPE_CHECKING:
    from dmabuf.devices.v4l2 import Capture, Format
    from dmabuf.share import Publisher

SUMMARY = "Give a buffer, or a camera's frames, to other processes without a copy."
EXAMPLES = (
    ("send /tmp/buffer 4M", "give a buffer to one receiver"),
    ("send /tmp/buffer --fill-from frame.raw --hold", "give it to every receiver"),
    ("send /run/camera.sock --camera /dev/video0", "a camera for many programs"),
)
_EPILOG = """\
PATH is the socket that receivers connect to; @NAME is a socket without a file. A receiver is
`dmabuf-alloc receive PATH` or any dmabuf.share.Subscriber. SIZE is as in `alloc`.
"""
_LOOK = 0.2  # seconds until the next look at whether it is to stop
_OF_BUFFERS = ("size", "heap", "name", "fill_from", "hold")
_OF_CAMERAS = ("format", "dimensions", "rate", "buffers", "in_flight", "block")


def add(parser: argparse.ArgumentParser) -> None:
    """Declare its arguments."""
    parser.epilog = _EPILOG
    add = parser.add_argument
    add("path", metavar="PATH", type=typed(parse_socket), help="the socket for receivers")
    add("size", metavar="SIZE", nargs="?", type=typed(parse_size), help="the size of the buffer")
    add("--fill-from", metavar="FILE", help="fill the buffer with a file; - is standard input")
    add(
        "--heap",
        metavar="HEAP",
        type=typed(parse_heap),
        help="a heap's name or path, or udmabuf; default: the best",
    )
    add("--name", type=typed(parse_name), help="the buffer's name; at most 31 bytes")
    add("--hold", action="store_true", help="give the buffer to every receiver, until Ctrl-C")
    add("--camera", metavar="NODE", help="send the frames of a V4L2 camera")
    add("--format", metavar="NAME", help="the frames' pixel format, such as NV12 or MJPG")
    add(
        "--size",
        dest="dimensions",
        metavar="WxH",
        type=typed(parse_dimensions),
        help="the frames' size in pixels",
    )
    add("--rate", metavar="FPS", type=typed(parse_seconds), help="the camera's frames per second")
    add("--buffers", metavar="N", type=typed(parse_count), help="the camera's buffers (6)")
    add(
        "--in-flight",
        metavar="N",
        type=typed(parse_count),
        help="the number of frames that receivers may hold at once (2)",
    )
    add(
        "--block",
        metavar="SECONDS",
        type=typed(parse_seconds),
        help="how long to wait for receivers with --policy every (0)",
    )
    add("--mode", type=typed(parse_mode), default=0o600, help="the socket's permissions (600)")
    add(
        "--count",
        metavar="N",
        type=typed(parse_count),
        help="end after N receivers (1), or N frames of a camera",
    )


def run(arguments: argparse.Namespace, output: Output) -> None:
    """Serve until it is done or told to stop; whatever happens, release."""
    _check(arguments)
    with ExitStack() as stack:
        if arguments.camera is None:
            _send_buffer(arguments, stack, output)
        else:
            _send_frames(arguments, stack, output)


def _check(arguments: argparse.Namespace) -> None:
    given = {name for name, value in vars(arguments).items() if value not in (None, False)}
    if arguments.camera is not None:
        wrong, whose = given.intersection(_OF_BUFFERS), "--camera"
    elif given.isdisjoint({"size", "fill_from"}):
        raise UsageError("there is nothing to send: give a SIZE, --fill-from FILE or --camera NODE")
    else:
        wrong, whose = given.intersection(_OF_CAMERAS), "a buffer"
    if wrong:
        shown = {"size": "SIZE", "dimensions": "--size WxH"}
        names = ", ".join(shown.get(name, f"--{name.replace('_', '-')}") for name in sorted(wrong))
        raise UsageError(f"{names} can't be used with {whose}; see dmabuf-alloc send --help")
    if arguments.hold and arguments.count is not None:
        raise UsageError("--hold and --count exclude each other; give one of them")
    if arguments.name is not None:
        try:
            checked_name(arguments.name)
        except ValueError as error:
            raise UsageError(str(error)) from None


class _Loan:
    """A buffer in the hands of those who are there, until all have given it back."""

    def __init__(self, buffer: Buffer) -> None:
        self.buffers = (buffer,)
        self.is_back = False

    def close(self) -> None:
        """Take it back; the buffer stays open for the next."""
        self.is_back = True


def _send_buffer(arguments: argparse.Namespace, stack: ExitStack, output: Output) -> None:
    from dmabuf.share import Publisher

    buffer = _filled(arguments, stack)
    stack.enter_context(stop_signals_blocked())
    publisher = stack.enter_context(
        Publisher(
            arguments.path,
            in_flight=1,
            mode=arguments.mode,
            hold_timeout=None,  # nobody waits for it
            keep_last=arguments.hold,
        )
    )
    output.table("Buffer", described.COLUMNS, [described.row(0, buffer)])
    _say_where(arguments, output)
    receivers = None
    if arguments.hold:
        _lend_to_all(publisher, buffer)
        output.line("released")
    else:
        receivers = _lend(publisher, buffer, arguments.count or 1)
        output.line(f"given to {receivers} receiver{'s' * (receivers != 1)}")
    output.document(
        path=arguments.path,
        camera=None,
        buffers=[described.document(0, buffer)],
        receivers=receivers,
        published=None,
    )


def _filled(arguments: argparse.Namespace, stack: ExitStack) -> Buffer:
    size = arguments.size or _size_of(arguments.fill_from)
    _memory.require(_memory.rounded(size), exact(size), cma=is_contiguous(arguments.heap))
    file = None
    if arguments.fill_from is not None:
        file = FileContent(arguments.fill_from, size)
        stack.callback(file.close)
    with allocator(arguments.heap) as allocate:
        buffer = stack.enter_context(allocate(size, name=arguments.name))
    if file is not None:
        with progress("filling", buffer.size) as advance:
            contents.fill(buffer, 0, file, advance)
    return buffer


def _size_of(path: str) -> int:
    """Return a file's size, where no other is given."""
    about = os.stat(path) if path != "-" else os.fstat(0)
    if not stat.S_ISREG(about.st_mode) or not about.st_size:
        name = "standard input" if path == "-" else path
        raise UsageError(f"{name} has no known size before it is read; give a SIZE too")
    return about.st_size


def _lend(publisher: Publisher, buffer: Buffer, count: int) -> int:
    """Give a buffer to each who comes, until `count` have given it back; return how many have."""
    back = coming = 0
    loan: _Loan | None = None
    while back < count and not is_stop_asked():
        if loan is None:
            coming = sum(not about.delivered for about in publisher.subscribers())
            if coming:
                loan = _Loan(buffer)
                publisher.publish(loan)
        elif loan.is_back:
            back += coming
            loan = None
            continue
        publisher.service(_LOOK)
    return back


def _lend_to_all(publisher: Publisher, buffer: Buffer) -> None:
    """Give a buffer to all who come, until told to stop."""
    publisher.publish(_Loan(buffer))
    while not is_stop_asked():
        publisher.service(_LOOK)


def _send_frames(arguments: argparse.Namespace, stack: ExitStack, output: Output) -> None:
    from dmabuf.devices import v4l2
    from dmabuf.share import Publisher

    stack.enter_context(stop_signals_blocked())
    camera = stack.enter_context(v4l2.Capture(arguments.camera))
    format = _set_up(camera, arguments)
    publisher = stack.enter_context(
        Publisher(
            arguments.path,
            in_flight=arguments.in_flight or 2,
            mode=arguments.mode,
            block=arguments.block,
        )
    )
    frames = stack.enter_context(camera.stream(count=arguments.buffers or 6))
    about = f"{format.format or format.fourcc} {format.width}x{format.height}"
    output.line(f"camera {arguments.camera}: {about}, {len(frames.buffers)} buffers")
    _say_where(arguments, output)
    meter, sequence = Meter(), -1
    with status() as show:
        while meter.frames != arguments.count and not is_stop_asked():
            publisher.service()
            try:
                frame = frames.frame(_LOOK)
            except TimeoutError:
                continue
            missed, sequence = max(frame.sequence - sequence - 1, 0), frame.sequence
            meter.count(missed)
            publisher.publish(frame)
            show(lambda: f"{meter}, {len(publisher.subscribers())} receivers")
    output.line(f"published {meter} by the camera")
    shown = {"node": arguments.camera, "format": str(format.format or format.fourcc)}
    output.document(
        path=arguments.path,
        camera={**shown, "width": format.width, "height": format.height},
        buffers=[],
        receivers=None,
        published=meter.document(),
    )


def _set_up(camera: Capture, arguments: argparse.Namespace) -> Format:
    """Set what is asked for, leave the rest as it is, and return the format."""
    format = camera.format()
    if arguments.format is not None or arguments.dimensions is not None:
        width, height = arguments.dimensions or (format.width, format.height)
        try:
            format = camera.set_format(arguments.format or format.fourcc, width, height)
        except ValueError as error:
            if isinstance(error, OSError):
                raise
            raise UsageError(str(error)) from None
    if arguments.rate is not None:
        try:
            camera.set_frame_rate(arguments.rate)
        except ValueError as error:
            raise UsageError(str(error)) from None
    return format


def _say_where(arguments: Any, output: Output) -> None:
    output.line(f"serving {arguments.path} until Ctrl-C or kill {os.getpid()}")
    output.flush()

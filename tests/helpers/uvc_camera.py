"""A UVC camera over USB/IP: the kernel's own uvcvideo, and this file in the place of the hardware.

The kernel's virtual host controller (vhci_hcd) takes one end of a socketpair. At the other end a
thread answers as a camera does: descriptors, controls and a bulk stream. Follows
Documentation/usb/usbip_protocol.rst and the USB Device Class Definition for Video Devices 1.1.
"""

from __future__ import annotations

import contextlib
import errno
import io
import socket
import threading
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from struct import Struct, pack, unpack_from
from typing import NamedTuple, TypeVar

from dmabuf.devices import v4l2

PORT = Path("/sys/devices/platform/vhci_hcd.0")
DRIVER = Path("/sys/bus/usb/drivers/uvcvideo")
NAME = "Camera of the tests"
WIDTH, HEIGHT = 160, 120
FRAME_SECONDS = 0.1
DEVICE = 1 << 16 | 2  # the number of the bus, and that of the device on it
HIGH_SPEED = 3
PAYLOAD = 16384
"""Bytes of a bulk transfer: a header of two bytes, and a part of one frame."""

_Found = TypeVar("_Found")

_SUBMIT, _UNLINK, _SUBMITTED, _UNLINKED = 1, 2, 3, 4
_header = Struct(">5I")  # command, sequence number, device, direction, endpoint
_submit = Struct(">I4i8s")  # flags, length, start frame, packets, interval, the setup packet
_result = Struct(">5i8x")  # status, length, start frame, packets, errors
_status = Struct(">i24x")
_probe = Struct("<H2BI5H3I4B")
_UNCOMPRESSED, _MJPEG = 4, 6  # VS_FORMAT_UNCOMPRESSED, VS_FORMAT_MJPEG; their frames follow
_GUID_END = bytes.fromhex("0000 1000 8000 00aa 0038 9b71")
FORMATS = (
    (_UNCOMPRESSED, b"YUY2"),
    (_UNCOMPRESSED, b"Z16 "),
    (_MJPEG, b"MJPG"),
)
INTERVAL = round(FRAME_SECONDS * 1e7)
SET_CUR, GET_CUR, GET_MIN, GET_MAX, GET_RES, GET_LEN, GET_INFO, GET_DEF = 1, *range(0x81, 0x88)


class Setting(NamedTuple):
    """A control of a unit, with its bit in the unit's bmControls and its values."""

    unit: int
    selector: int
    bit: int
    size: int
    minimum: int
    maximum: int
    default: int


CAMERA, PROCESSING = 1, 2
SETTINGS = {
    "brightness": Setting(PROCESSING, 2, 0, 2, -64, 64, 0),
    "contrast": Setting(PROCESSING, 3, 1, 2, 0, 100, 50),
    "gain": Setting(PROCESSING, 4, 9, 2, 0, 255, 16),
    "sharpness": Setting(PROCESSING, 8, 4, 2, 0, 7, 3),
    "exposure_absolute": Setting(CAMERA, 4, 3, 4, 3, 2047, 166),
}


def frame_bytes(fourcc: str, number: int) -> bytes:
    """Return the bytes of a frame of the camera's: each differs from the one before."""
    if fourcc == "MJPG":
        return _jpeg(number % 251)
    size = WIDTH * HEIGHT * 2
    return (bytes(range(256)) * (size // 256 + 2))[number % 256 :][:size]


def jpeg_color(number: int) -> tuple[int, int, int]:
    """Return the colour that an MJPEG frame is filled with."""
    return number * 40 % 256, 120, 200


@cache
def _jpeg(number: int) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    picture = Image.new("RGB", (WIDTH, HEIGHT), jpeg_color(number))
    picture.save(file, "jpeg", quality=95, comment=bytes(number))  # each of a length of its own
    return file.getvalue()


class Stall(Exception):
    """The camera refuses a request."""


class Peer:
    """The camera's end of the socket, with a thread that answers until the socket is shut."""

    def __init__(self, end: socket.socket, stalled: frozenset[str]) -> None:
        self._end = end
        self._stalled = stalled
        self._values = {name: setting.default for name, setting in SETTINGS.items()}
        self._format = 1
        self._waiting: dict[int, int] = {}  # the lengths of transfers that want data, by number
        self._parts: list[bytes] = []  # of the frame under way
        self._frame = 0
        self._due: float | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def shut(self) -> None:
        """End the connection, and the thread."""
        with contextlib.suppress(OSError):
            self._end.shutdown(socket.SHUT_RDWR)
        self._thread.join()

    def _run(self) -> None:
        with contextlib.suppress(OSError, EOFError):
            while True:
                late = None if self._due is None else max(0, self._due - time.monotonic())
                if late == 0 and self._waiting:
                    self._send_part()
                    continue
                self._end.settimeout(late if self._waiting else None)
                with contextlib.suppress(TimeoutError):
                    self._answer()

    def _take(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = self._end.recv(size - len(data))
            if not part:
                raise EOFError
            data += part
        return data

    def _answer(self) -> None:
        command, number, _, direction, endpoint = _header.unpack(self._take(_header.size))
        self._end.settimeout(None)
        if command == _UNLINK:
            (victim,) = unpack_from(">I", self._take(_submit.size))
            pending = self._waiting.pop(victim, None) is not None
            status = -errno.ECONNRESET if pending else 0
            self._end.sendall(_header.pack(_UNLINKED, number, 0, 0, 0) + _status.pack(status))
            return
        _, length, _, _, _, setup = _submit.unpack(self._take(_submit.size))
        if endpoint:
            self._waiting[number] = length
            return
        data = b"" if direction else self._take(length)
        try:
            answer = self._control(setup, data)[:length]
        except Stall:
            self._submitted(number, b"", -errno.EPIPE, 0)
        else:
            self._submitted(number, answer, 0, len(answer) if direction else length)

    def _submitted(self, number: int, data: bytes, status: int, length: int) -> None:
        result = _result.pack(status, length, 0, 0, 0)
        self._end.sendall(_header.pack(_SUBMITTED, number, 0, 0, 0) + result + data)

    def _send_part(self) -> None:
        if not self._parts:
            fourcc = FORMATS[self._format - 1][1].decode()
            data = frame_bytes(fourcc, self._frame)
            room = PAYLOAD - 2
            self._parts = [data[start : start + room] for start in range(0, len(data), room)]
        part = self._parts.pop(0)
        last = not self._parts
        number = next(iter(self._waiting))
        del self._waiting[number]
        flags = 0x80 | self._frame & 1 | last << 1
        data = bytes((2, flags)) + part
        self._submitted(number, data, 0, len(data))
        if last:
            self._frame += 1
            self._due = time.monotonic() + FRAME_SECONDS

    def _control(self, setup: bytes, data: bytes) -> bytes:
        kind, request, value, index, _ = unpack_from("<2B3H", setup)
        if kind & 0x60 == 0:
            return self._standard(kind, request, value)
        selector, unit, interface = value >> 8, index >> 8, index & 0xFF
        if interface == 1:
            return self._streaming(request, selector, data)
        if unit == 0 and request == GET_CUR:  # VC_REQUEST_ERROR_CODE_CONTROL
            return b"\6"  # an invalid control
        for name, setting in SETTINGS.items():
            if (setting.unit, setting.selector) == (unit, selector) and name not in self._stalled:
                return self._setting(name, setting, request, data)
        raise Stall

    def _standard(self, kind: int, request: int, value: int) -> bytes:
        if request == 6:  # GET_DESCRIPTOR
            known = {0x100: _device(), 0x200: _configuration(), 0x300: b"\4\3\x09\4"}
            text = NAME.encode("utf-16-le")
            known[0x301] = bytes((len(text) + 2, 3)) + text
            if value in known:
                return known[value]
            raise Stall
        if (kind, request) == (2, 1):  # CLEAR_FEATURE of the endpoint: the stream has ended
            self._due = None
            self._parts = []
        return b"\0\0" if request == 0 else b""

    def _streaming(self, request: int, selector: int, data: bytes) -> bytes:
        if request == SET_CUR:
            self._format = _probe.unpack(data.ljust(_probe.size, b"\0"))[1] or 1
            if selector == 2:  # VS_COMMIT_CONTROL
                self._due, self._frame = time.monotonic(), 0
            return b""
        if request == GET_INFO:
            return b"\3"
        if request == GET_LEN:
            return pack("<H", _probe.size)
        size = WIDTH * HEIGHT * 2
        about = (0, self._format, 1, INTERVAL, *(0,) * 5, size, PAYLOAD, *(0,) * 5)
        return _probe.pack(*about)

    def _setting(self, name: str, setting: Setting, request: int, data: bytes) -> bytes:
        if request == SET_CUR:
            self._values[name] = int.from_bytes(data, "little", signed=True)
            return b""
        if request == GET_INFO:
            return b"\3"  # it can be read and set
        if request == GET_LEN:
            return pack("<H", setting.size)
        values = {GET_CUR: self._values[name], GET_MIN: setting.minimum, GET_MAX: setting.maximum}
        values |= {GET_RES: 1, GET_DEF: setting.default}
        return values[request].to_bytes(setting.size, "little", signed=True)


def _device() -> bytes:
    return pack("<2BH4B3H4B", 18, 1, 0x200, 0xEF, 2, 1, 64, 0x1209, 1, 0x100, 0, 1, 0, 1)


def _bits(unit: int) -> bytes:
    return sum(1 << one.bit for one in SETTINGS.values() if one.unit == unit).to_bytes(3, "little")


def _configuration() -> bytes:
    camera = pack("<4BH2B3HB", 18, 0x24, 2, CAMERA, 0x201, 0, 0, 0, 0, 0, 3) + _bits(CAMERA)
    processing = pack("<5BHB", 13, 0x24, 5, PROCESSING, CAMERA, 0, 3) + _bits(PROCESSING) + b"\0\0"
    output = pack("<4BH3B", 9, 0x24, 3, 3, 0x101, 0, PROCESSING, 0)
    units = camera + processing + output
    control = pack("<3B2HI2B", 13, 0x24, 1, 0x110, 13 + len(units), 48_000_000, 1, 1) + units
    formats = b"".join(_format(index, *about) for index, about in enumerate(FORMATS, 1))
    count = len(FORMATS)
    whole = 13 + count + len(formats)
    streaming = pack("<4BH7B", 13 + count, 0x24, 1, count, whole, 0x81, 0, 3, 0, 0, 0, 1)
    streaming += bytes(count) + formats
    body = b"".join(
        (
            bytes((8, 11, 0, 2, 14, 3, 0, 0)),  # both interfaces are one function
            bytes((9, 4, 0, 0, 0, 14, 1, 0, 0)),
            control,
            bytes((9, 4, 1, 0, 1, 14, 2, 0, 0)),
            streaming,
            pack("<4BHB", 7, 5, 0x81, 2, 512, 0),
        )
    )
    return pack("<2BH5B", 9, 2, 9 + len(body), 2, 1, 0, 0x80, 50) + body


def _format(index: int, kind: int, code: bytes) -> bytes:
    if kind == _MJPEG:
        about = bytes((11, 0x24, kind, index, 1, 1, 1, 0, 0, 0, 0))
    else:
        about = bytes((27, 0x24, kind, index, 1)) + code + _GUID_END + bytes((16, 1, 0, 0, 0, 0))
    rate = WIDTH * HEIGHT * 16 * 10
    size = WIDTH * HEIGHT * 2
    frame = pack(
        *("<5B2H4IBI", 30, 0x24, kind + 1, 1, 0, WIDTH, HEIGHT, rate, rate, size, INTERVAL),
        *(1, INTERVAL),
    )
    return about + frame + bytes((6, 0x24, 13, 1, 1, 4))  # Rec. 709, and the matrix of Rec. 601


class PluggedIn(NamedTuple):
    """The camera at its port."""

    path: str
    """Its video node."""
    peer: Peer

    def unplug(self) -> None:
        """Pull the cable. The kernel notices by itself, a little later."""
        self.peer.shut()


@contextlib.contextmanager
def plugged_in(*, stalled: frozenset[str] = frozenset()) -> Iterator[PluggedIn]:
    """Give a camera. It refuses all requests on the settings that are named in `stalled`."""
    theirs, ours = socket.socketpair()
    with ours:
        with theirs:
            (PORT / "attach").write_text(f"0 {theirs.fileno()} {DEVICE} {HIGH_SPEED}")
        peer = Peer(ours, stalled)
        try:
            yield PluggedIn(_wait_for(_node, "it has no video node"), peer)
        finally:
            peer.shut()
            _wait_for(_is_free, "it is still plugged in")


def _wait_for(ask: Callable[[], _Found | None], failure: str) -> _Found:
    end = time.monotonic() + 30
    while not (found := ask()):
        assert time.monotonic() < end, f"the UVC camera: {failure}"
        time.sleep(0.05)
    return found


def _node() -> str | None:
    for name in sorted(DRIVER.glob("*/video4linux/video*")):
        with contextlib.suppress(OSError):
            about = v4l2.inspect(f"/dev/{name.name}")
            if about.capture:
                return about.path
    return None


def _is_free() -> bool:
    """Whether no video node is left, and the port may be attached again."""
    port = (PORT / "status").read_text().splitlines()[1].split()
    return port[2] == "004" and not list(DRIVER.glob("*/video4linux/video*"))

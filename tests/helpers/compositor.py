"""A compositor that misbehaves, for what no real one does: it runs in a thread of the test."""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

_GLOBALS = {1: ("wl_compositor", 4), 2: ("xdg_wm_base", 1), 3: ("zwp_linux_dmabuf_v1", 3)}
_TIMELINES = {4: ("wp_linux_drm_syncobj_manager_v1", 1)}
_XRGB8888 = 0x34325258


def text(words: str) -> bytes:
    """Return a text as an argument."""
    data = words.encode() + b"\0"
    return struct.pack("=I", len(data)) + data + bytes(-len(data) % 4)


class Compositor:
    """One connection, served as a compositor would, but for what `misdeeds` says.

    These are by the moment at which they come: "connect", "registry", "formats", "configure",
    "buffer" and "commit". None for one leaves out what should come then.
    """

    def __init__(
        self,
        path: Path,
        misdeeds: dict[str, Callable[..., object] | None],
        *,
        timelines: bool = False,
    ) -> None:
        self.path = path
        self.pongs: list[int] = []
        self.received: list[int] = []
        self.timelines: dict[int, int] = {}
        """Descriptors of sync objects, by the numbers of their objects."""
        self.points: list[tuple[int, int]] = []
        """The timelines and points of each commit: when it is ready, and of its release."""
        self._globals = _GLOBALS | (_TIMELINES if timelines else {})
        self._taken = 0
        self._misdeeds = misdeeds
        self._kinds = {1: "wl_display"}
        self._numbers: dict[str, int] = {}
        self._made = 0xFF000000
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self.sock: socket.socket | None = None
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Compositor:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.sock is None:  # nobody came
            with socket.socket(socket.AF_UNIX) as nobody:
                nobody.connect(str(self.path))
        self._thread.join()
        self._listener.close()
        for number in self.received:
            os.close(number)

    def send(self, number: int, opcode: int, body: bytes = b"", files: Sequence[int] = ()) -> None:
        """Send an event of an object."""
        header = struct.pack("=II", number, (8 + len(body)) << 16 | opcode)
        socket.send_fds(self.sock, [header + body], list(files))

    def send_to(self, kind: str, opcode: int, body: bytes = b"", files: Sequence[int] = ()) -> None:
        """Send an event of the last object of a kind."""
        self.send(self._numbers[kind], opcode, body, files)

    def _serve(self) -> None:
        self.sock, _ = self._listener.accept()
        data = b""
        with self.sock:
            self._do("connect", lambda: None)
            try:
                while True:
                    part, numbers, _, _ = socket.recv_fds(self.sock, 4096, 64)
                    self.received += numbers
                    if not part and not numbers:
                        return
                    data += part
                    while len(data) >= 8 and len(data) >= (size := self._size(data)):
                        sender, word = struct.unpack_from("=II", data)
                        self._answer(sender, word & 0xFFFF, data[8:size])
                        data = data[size:]
            except OSError:
                return  # the client has closed, or a misdeed has

    @staticmethod
    def _size(data: bytes) -> int:
        return int(struct.unpack_from("=I", data, 4)[0] >> 16)

    def _do(self, moment: str, usual: Callable[[], object]) -> None:
        if moment not in self._misdeeds:
            usual()
        elif (misdeed := self._misdeeds[moment]) is not None:
            misdeed(self)

    def _new(self, number: int, kind: str) -> None:
        self._kinds[number] = kind
        self._numbers[kind] = number

    def _answer(self, sender: int, opcode: int, body: bytes) -> None:
        words = struct.unpack(f"={len(body) // 4}I", body)
        request = self._kinds.get(sender), opcode
        if request == ("wl_display", 0):
            self.send(words[0], 0, struct.pack("=I", 0))
            self.send(1, 1, struct.pack("=I", words[0]))
        elif request == ("wl_display", 1):
            self._new(words[0], "wl_registry")
            self._do("registry", self._announce)
        elif request == ("wl_registry", 0):
            self._new(words[-1], self._globals[words[0]][0])
            if words[0] == 3:
                self._do("formats", self._tell_formats)
        elif request == ("wl_compositor", 0):
            self._new(words[0], "wl_surface")
        elif request == ("xdg_wm_base", 2):
            self._new(words[0], "xdg_surface")
        elif request == ("xdg_wm_base", 3):
            self.pongs.append(words[0])
        elif request == ("xdg_surface", 1):
            self._new(words[0], "xdg_toplevel")
            self._do("configure", lambda: self.send_to("xdg_surface", 0, struct.pack("=I", 1)))
        elif request == ("zwp_linux_dmabuf_v1", 1):
            self._new(words[0], "params")
        elif request == ("params", 1):
            self._taken += 1
        elif request == ("wp_linux_drm_syncobj_manager_v1", 1):
            self._new(words[0], "points")
        elif request == ("wp_linux_drm_syncobj_manager_v1", 2):
            self._new(words[0], "timeline")
            self.timelines[words[0]] = self.received[self._taken]
            self._taken += 1
        elif sender == self._numbers.get("points") and opcode in (1, 2):
            self.points.append((words[0], words[1] << 32 | words[2]))
        elif request == ("params", 2):
            self._do("buffer", self.create_buffer)
        elif request == ("wl_surface", 3):
            self._new(words[0], "frame")
        elif request == ("wl_surface", 6) and "frame" in self._numbers:
            self._do("commit", self.tell_frame)

    def _announce(self) -> None:
        for number, (name, version) in self._globals.items():
            body = struct.pack("=I", number) + text(name) + struct.pack("=I", version)
            self.send_to("wl_registry", 0, body)

    def _tell_formats(self) -> None:
        self.send_to("zwp_linux_dmabuf_v1", 1, struct.pack("=III", _XRGB8888, 0, 0))

    def create_buffer(self) -> None:
        """Tell that a buffer is made."""
        self._made += 1
        self._new(self._made, "wl_buffer")
        self.send_to("params", 0, struct.pack("=I", self._made))

    def tell_frame(self) -> None:
        """Tell that it is time for the next image."""
        number = self._numbers["frame"]
        self.send(number, 0, struct.pack("=I", 0))
        self.send(1, 1, struct.pack("=I", number))

"""A frame that a subscriber has received."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from dmabuf._closing import Closing

if TYPE_CHECKING:
    from typing import Protocol

    from dmabuf.buffer import Buffer
    from dmabuf.image import Image

    class Origin(Protocol):
        """Whom a frame is given back to."""

        def give_back(self, sequence: int) -> None:
            """Give the frame of this number back."""


_Self = TypeVar("_Self", bound="SharedFrame")


class Contents(NamedTuple):
    """What came."""

    sequence: int
    timestamp_ns: int
    buffers: tuple[Buffer, ...]
    used: tuple[int, ...]
    image: Image | None
    message: bytes
    dropped: int


class SharedFrame(Closing):
    """A frame of a `Subscriber`. It is given back once: by `with frame`, or by `close()`.

        for frame in subscriber:
            with frame, frame.image.read() as planes:
                print(frame.sequence, planes[0].mean())

    Its memory belongs to the publisher, which writes into it again once the frame is given back. An
    array that outlives the frame stays valid memory, with other contents. If a device still reads
    the memory when the frame is given back, import its fence before:
    `frame.buffers[0].import_fence(fence, Access.READ)` (Linux 6.0).

    The buffers and their mappings are used again for later frames: do not close them. Thread-safe.
    """

    __slots__ = ("__weakref__", "_contents", "_origins")

    def __init__(self, contents: Contents, origin: Origin) -> None:
        self._contents = contents
        self._origins = [origin]  # until given back: the thread that pops it gives it back

    @property
    def image(self) -> Image:
        """The frame as an `Image`. ValueError if it has none, or its format is unknown here."""
        picture = self._open().image
        if picture is None:
            raise ValueError(
                f"frame {self._contents.sequence} has no image: it was published without one, or"
                " with a format that this version of dmabuf does not know; use its buffers"
            )
        return picture

    @property
    def buffers(self) -> tuple[Buffer, ...]:
        """The buffers of the frame: one, or one per plane."""
        return self._open().buffers

    @property
    def sequence(self) -> int:
        """The number of the publisher's item, from 0. Works when given back."""
        return self._contents.sequence

    @property
    def timestamp(self) -> float:
        """The time of capture or publication, in `time.monotonic()` seconds."""
        return self._contents.timestamp_ns / 1_000_000_000

    @property
    def message(self) -> bytes:
        """The bytes that the publisher sent with the frame."""
        return self._contents.message

    @property
    def bytes_used(self) -> tuple[int, ...]:
        """The end of the data in each buffer, in bytes from the start of the buffer."""
        return self._contents.used

    @property
    def dropped(self) -> int:
        """The number of items that were missed since the previous frame."""
        return self._contents.dropped

    @property
    def closed(self) -> bool:
        """True once the frame was given back."""
        return not self._origins

    def close(self) -> None:
        """Give the frame back. Does nothing the second time, or if the publisher is gone."""
        try:
            origin = self._origins.pop()
        except IndexError:
            return
        origin.give_back(self._contents.sequence)

    def _open(self) -> Contents:
        if not self._origins:
            raise ValueError("operation on a frame that was given back")
        return self._contents

    def __enter__(self: _Self) -> _Self:
        self._open()
        return self

    def __del__(self) -> None:
        if getattr(self, "_origins", None):
            try:
                message = f"frame {self.sequence} was not given back; use `with frame`"
                warnings.warn(message, ResourceWarning, stacklevel=2, source=self)
            finally:
                self.close()

    def __repr__(self) -> str:
        state = f"buffers={self._contents.buffers}" if self._origins else "[given back]"
        return f"<dmabuf.share.SharedFrame {self.sequence} {state}>"

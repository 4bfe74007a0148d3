"""A frame of a pipeline in another process."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, TypeVar

from dmabuf._closing import Closing
from dmabuf.buffer import Buffer
from dmabuf.image import Image
from dmabuf.interop.gstreamer._caps import Caps
from dmabuf.interop.gstreamer._content import PlainMemory, place_image
from dmabuf.interop.gstreamer._unixfd import BufferMessage

if TYPE_CHECKING:
    from typing import Protocol

    class Origin(Protocol):
        """Whom a frame is given back to."""

        def give_back(self, number: int) -> None:
            """Give the buffer of this number back."""


_Self = TypeVar("_Self", bound="PipelineFrame")


class PipelineFrame(Closing):
    """A frame of a `Source`. It is given back once: by `with frame`, or by `close()`.

        for frame in source:
            with frame, frame.image.read() as planes:
                print(frame.pts, planes[0].mean())

    Its memory belongs to the pipeline, which writes into it again once the frame is given back.
    Giving it back closes its buffers. An array that outlives the frame stays valid memory, with
    other contents. Thread-safe.
    """

    __slots__ = ("__weakref__", "_caps", "_message", "_origins", "_owners")

    def __init__(
        self,
        message: BufferMessage,
        owners: list[Buffer | PlainMemory],
        caps: Caps,
        origin: Origin,
    ) -> None:
        self._message = message
        self._owners = owners
        self._caps = caps
        self._origins = [origin]  # until given back: the thread that pops it gives it back

    @property
    def image(self) -> Image:
        """The frame as an `Image`, which borrows the frame's buffers.

        ValueError if the stream is not raw video in a known format, if the planes do not lie inside
        of the memory, or if the memory is not a dma-buf (see `copy`).
        """
        picture = self._caps.picture()
        return place_image(self._message, list(self.buffers), picture)

    @property
    def buffers(self) -> tuple[Buffer, ...]:
        """The dma-bufs of the frame. Giving it back closes them: `dup()` those that must stay open.

        ValueError if the frame is in plain memory.
        """
        buffers = [owner for owner in self._open() if isinstance(owner, Buffer)]
        if not buffers:
            raise ValueError(
                "this frame is in plain memory (a memfd), not in a dma-buf: read copy(), or have"
                " the pipeline allocate dma-bufs (v4l2src io-mode=dmabuf)"
            )
        return tuple(buffers)

    @property
    def in_dma_bufs(self) -> bool:
        """True if the memory is dma-bufs; False if it is plain memory, which `copy` reads."""
        return self._message.is_dma_buf

    def copy(self, *, limit: int = 1 << 30) -> bytes:
        """Return a copy of the frame's bytes, for encoded streams and for plain memory.

        Blocks until pending writers are done. ValueError if there are more than `limit` bytes, or
        if the owner of plain memory has shrunk it.
        """
        size = sum(memory.size for memory in self._message.memories)
        if size > limit:
            raise ValueError(f"the frame has {size} bytes, more than the limit of {limit}")
        parts = []
        for owner, memory in zip(self._open(), self._message.memories, strict=True):
            if isinstance(owner, PlainMemory):
                parts.append(owner.read(memory))
            else:
                with owner.read() as view:
                    parts.append(bytes(view[memory.offset : sum(memory)]))
        return b"".join(parts)

    @property
    def caps(self) -> Caps:
        """The caps of the stream at this frame."""
        return self._caps

    @property
    def pts(self) -> int | None:
        """The presentation time, in nanoseconds of `time.monotonic_ns()`; None if not given."""
        return self._message.pts

    @property
    def dts(self) -> int | None:
        """The decoding time, in nanoseconds of `time.monotonic_ns()`; None if not given."""
        return self._message.dts

    @property
    def duration(self) -> int | None:
        """The duration in nanoseconds; None if not given."""
        return self._message.duration

    @property
    def closed(self) -> bool:
        """True once the frame was given back."""
        return not self._origins

    def close(self) -> None:
        """Give the frame back and close its buffers. Does nothing the second time."""
        try:
            origin = self._origins.pop()
        except IndexError:
            return
        try:
            for owner in self._owners:
                owner.close()
        finally:
            origin.give_back(self._message.id)

    def _open(self) -> list[Buffer | PlainMemory]:
        if not self._origins:
            raise ValueError("operation on a frame that was given back")
        return self._owners

    def __enter__(self: _Self) -> _Self:
        self._open()
        return self

    def __del__(self) -> None:
        if getattr(self, "_origins", None):
            try:
                message = "a frame of a pipeline was not given back; use `with frame`"
                warnings.warn(message, ResourceWarning, stacklevel=2, source=self)
            finally:
                self.close()

    def __repr__(self) -> str:
        state = f"pts={self.pts} {self._owners}" if self._origins else "[given back]"
        return f"<dmabuf.interop.gstreamer.PipelineFrame {state}>"

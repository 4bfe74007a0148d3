"""What may be published, and what is told of it: its buffers, its picture, how it is given back.

An item has `buffers`, and is given back by the first of these that it has: `leave()` (a V4L2 frame,
which goes back to its device without a wait), `queue()`, or `close()`.
That is all that is asked of it, so that this package doesn't bring those who make such items.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from dmabuf._fd import require_open
from dmabuf.buffer import Buffer
from dmabuf.image import Image
from dmabuf.share._wire import MOST_MESSAGE, MOST_PLANES, Layout, SharedPlane

if TYPE_CHECKING:
    from typing import Protocol

    class Closed(Protocol):
        """What owns buffers, and lets go of them when it is closed: an owning image, say."""

        @property
        def buffers(self) -> tuple[Buffer, ...]:
            """Its memory."""

        def close(self) -> None:
            """Give it back."""

    class Queued(Protocol):
        """What has buffers of a device's, to which they go back: a captured frame, say."""

        @property
        def buffers(self) -> tuple[Buffer, ...]:
            """Its memory."""

        def queue(self) -> None:
            """Give it back."""

    Publishable: TypeAlias = Buffer | Closed | Queued

_LARGEST = 2**32 - 1
_WAYS_BACK = "leave", "queue", "close"


class Offer(NamedTuple):
    """What is published."""

    item: Publishable
    buffers: tuple[Buffer, ...]
    used: tuple[int, ...]
    layout: Layout | None
    timestamp_ns: int
    message: bytes

    def give_back(self) -> None:
        """Give the item back: to its device, to its pool, or to the kernel."""
        for way in _WAYS_BACK:
            give_back = getattr(self.item, way, None)
            if give_back is not None:
                give_back()
                return

    @property
    def may_be_fenced(self) -> bool:
        """Whether it can be given back while others' fences on it have not signalled.

        The way back of `queue()` alone may wait for them.
        """
        return hasattr(self.item, "leave") or not hasattr(self.item, "queue")

    @property
    def goes_to_a_device(self) -> bool:
        """Whether a device gets it back."""
        return hasattr(self.item, "queue")


def offered(item: Publishable, image: Image | None, message: bytes) -> Offer:
    """Return what is to be published; TypeError or ValueError if it can't be."""
    if image is not None and not isinstance(image, Image):
        raise TypeError(f"image must be a dmabuf.Image, not {type(image).__name__}")
    data = bytes(memoryview(message))
    if len(data) > MOST_MESSAGE:
        raise ValueError(f"a message has at most {MOST_MESSAGE} bytes, not {len(data)}")
    used = _buffers(item)
    buffers = tuple(used)
    picture = _picture(item) if image is None else image
    layout = None if picture is None else _layout(picture, buffers)
    seconds = getattr(item, "timestamp", None)
    stamp = time.monotonic_ns() if seconds is None else int(seconds * 1_000_000_000)
    return Offer(item, buffers, tuple(used.values()), layout, stamp, data)


def _buffers(item: Publishable) -> dict[Buffer, int]:
    """Return the distinct buffers of an item, each with how many of its bytes hold data."""
    if isinstance(item, Buffer):
        require_open(item)
        return {item: item.size}
    given = getattr(item, "buffers", None)
    if given is None or not (hasattr(item, "queue") or hasattr(item, "close")):
        raise TypeError(
            "publish() takes over a dmabuf.Buffer, or what has buffers and is given back by"
            f" queue() or close(), not {type(item).__name__}; what borrows its buffers is"
            " published as publish(buffer, image=image)"
        )
    if isinstance(item, Image) and not item.owns_buffers:
        raise ValueError(
            f"{item!r} borrows its buffers, so that it can't be taken over; publish the buffer, as"
            " publish(buffer, image=image)"
        )
    used: dict[Buffer, int] = {}
    counts = getattr(item, "bytes_used", None) or [buffer.size for buffer in given]
    for buffer, count in zip(given, counts, strict=True):
        require_open(buffer)
        used[buffer] = max(count, used.get(buffer, 0))
    if not 1 <= len(used) <= MOST_PLANES:
        raise ValueError(f"an item has 1 to {MOST_PLANES} buffers, not {len(used)}")
    return used


def _picture(item: Publishable) -> Image | None:
    """Return an item's own image; None if it has none, as a compressed frame."""
    if isinstance(item, Image):
        return item
    try:
        return getattr(item, "image", None)
    except ValueError:  # its format is no PixelFormat
        return None


def _layout(image: Image, buffers: tuple[Buffer, ...]) -> Layout:
    planes = []
    for plane in image.planes:
        if plane.buffer not in buffers:
            raise ValueError(f"{image!r} is on {plane.buffer!r}, which is not in the item")
        if plane.stride > _LARGEST:
            raise ValueError(f"a stride can't be published if it exceeds 32 bits: {plane.stride}")
        planes.append(SharedPlane(buffers.index(plane.buffer), plane.stride, plane.offset))
    if len(planes) > MOST_PLANES or max(image.width, image.height) > _LARGEST:
        raise ValueError(f"{image!r} can't be published: it has too many planes or pixels")
    return Layout(image.format.name, image.width, image.height, image.modifier, tuple(planes))

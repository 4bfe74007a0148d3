"""What may be published, and what is told of it: its buffers, its picture, how it is given back.

An item has `buffers`, and is given back by the first of these that it has: `leave()` (a V4L2 frame,
which goes back to its device without a wait), `queue()`, or `close()`.
That is all that is asked of it, so that this package doesn't bring those who make such items.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from dmabuf._fd import require_open
from dmabuf.buffer import Buffer
from dmabuf.image import Image
from dmabuf.image.colors import pack_colors
from dmabuf.share._messages import MOST_MESSAGE, MOST_PLANES, Layout, SharedPlane

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
    give_back: Callable[[], object]
    """Gives the item back: to its device, to its pool, or to the kernel."""
    buffers: tuple[Buffer, ...]
    used: tuple[int, ...]
    layout: Layout | None
    timestamp_ns: int
    message: bytes

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
    data = message if type(message) is bytes else bytes(memoryview(message))
    if len(data) > MOST_MESSAGE:
        raise ValueError(f"a message may have at most {MOST_MESSAGE} bytes, not {len(data)}")
    give_back = _way_back(item)
    buffers, used = _buffers(item)
    picture = _picture(item) if image is None else image
    layout = None if picture is None else _layout(picture, buffers)
    seconds = getattr(item, "timestamp", None)
    stamp = time.monotonic_ns() if seconds is None else int(seconds * 1_000_000_000)
    return Offer(item, give_back, buffers, used, layout, stamp, data)


def _way_back(item: Publishable) -> Callable[[], object]:
    """Return what gives an item back; TypeError if nothing does."""
    for way in _WAYS_BACK:
        give_back: Callable[[], object] | None = getattr(item, way, None)
        if give_back is not None:
            return give_back
    raise _no_item(item)


def _no_item(item: object) -> TypeError:
    return TypeError(
        "an item is a dmabuf.Buffer, or what has buffers and is given back by leave(), queue() or"
        f" close(), not {type(item).__name__}; for what borrows its buffers give the buffer, with"
        " image=image"
    )


def _buffers(item: Publishable) -> tuple[tuple[Buffer, ...], tuple[int, ...]]:
    """Return the distinct buffers of an item, and how many bytes of each hold data."""
    if isinstance(item, Buffer):
        require_open(item)
        return (item,), (item.size,)
    given = getattr(item, "buffers", None)
    if given is None:
        raise _no_item(item)
    if isinstance(item, Image) and not item.owns_buffers:
        raise ValueError(
            f"{item!r} borrows its buffers, so that it can't be taken over; give the buffer, with"
            " image=image"
        )
    buffers = tuple(given)
    for buffer in buffers:
        require_open(buffer)
    used = tuple(getattr(item, "bytes_used", None) or [buffer.size for buffer in buffers])
    if len(used) != len(buffers):
        raise ValueError(f"an item has {len(buffers)} buffers and {len(used)} bytes_used")
    if len(buffers) > 1:
        distinct: dict[Buffer, int] = {}
        for buffer, count in zip(buffers, used, strict=True):
            distinct[buffer] = max(count, distinct.get(buffer, 0))
        buffers, used = tuple(distinct), tuple(distinct.values())
    if not 1 <= len(buffers) <= MOST_PLANES:
        raise ValueError(f"an item has 1 to {MOST_PLANES} buffers, not {len(buffers)}")
    return buffers, used


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
    colors = pack_colors(image.color_encoding, image.color_range)
    size = image.width, image.height
    return Layout(image.format.name, *size, image.modifier, tuple(planes), colors)

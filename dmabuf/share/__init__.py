"""Buffers between processes: one producer, many consumers, and one piece of memory."""

from typing import TYPE_CHECKING

from dmabuf._lazy import attributes

if TYPE_CHECKING:
    from dmabuf.share._peers import SubscriberInfo
    from dmabuf.share.frame import SharedFrame
    from dmabuf.share.publisher import Publisher
    from dmabuf.share.subscriber import Subscriber

__all__ = ["Publisher", "SharedFrame", "Subscriber", "SubscriberInfo"]

__getattr__ = attributes(
    __name__,
    {
        "Publisher": "publisher",
        "SharedFrame": "frame",
        "Subscriber": "subscriber",
        "SubscriberInfo": "_peers",
    },
)


def __dir__() -> list[str]:
    return __all__

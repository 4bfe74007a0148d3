"""Buffers, fences and images between processes: sockets, multiprocessing, one camera for many.

    dmabuf.share.send(sock, [buffer, fence, image], b"frame 1")  # in one process

    with dmabuf.share.receive(sock) as received:  # in the other: the same memory
        buffer, fence, image = received.objects

The guides are docs/sharing.md and docs/publishing.md.
"""

from typing import TYPE_CHECKING

from dmabuf._lazy import attributes

if TYPE_CHECKING:
    from dmabuf.share._peers import SubscriberInfo
    from dmabuf.share.frame import SharedFrame
    from dmabuf.share.process import from_process, same
    from dmabuf.share.publisher import Publisher
    from dmabuf.share.sockets import (
        MessageError,
        Received,
        Sender,
        receive,
        receive_async,
        send,
        send_async,
    )
    from dmabuf.share.subscriber import Subscriber
    from dmabuf.share.ticket import Ticket

__all__ = [
    "MessageError",
    "Publisher",
    "Received",
    "Sender",
    "SharedFrame",
    "Subscriber",
    "SubscriberInfo",
    "Ticket",
    "from_process",
    "receive",
    "receive_async",
    "same",
    "send",
    "send_async",
]

# Imported when they are first used: asyncio alone would slow every start.
__getattr__, __dir__ = attributes(
    __name__,
    {
        "MessageError": "sockets",
        "Publisher": "publisher",
        "Received": "sockets",
        "Sender": "sockets",
        "SharedFrame": "frame",
        "Subscriber": "subscriber",
        "SubscriberInfo": "_peers",
        "Ticket": "ticket",
        "from_process": "process",
        "receive": "sockets",
        "receive_async": "sockets",
        "same": "process",
        "send": "sockets",
        "send_async": "sockets",
    },
)

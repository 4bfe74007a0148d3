"""Buffers, fences and images between processes: over sockets, multiprocessing and pidfds.

import dmabuf, socket

dmabuf.share.send(sock, [buffer, fence, image], b"frame 1")     # in one process
with dmabuf.share.receive(sock) as received:                    # in the other: same memory
buffer, fence, image = received.objects
"""

from typing import TYPE_CHECKING

from dmabuf._lazy import attributes

if TYPE_CHECKING:
    from dmabuf.share.process import from_process, same
    from dmabuf.share.sockets import (
        MessageError,
        Received,
        Sender,
        receive,
        receive_async,
        send,
        send_async,
    )
    from dmabuf.share.ticket import Ticket

__all__ = [
    "MessageError",
    "Received",
    "Sender",
    "Ticket",
    "from_process",
    "receive",
    "receive_async",
    "same",
    "send",
    "send_async",
]

# Imported when they are first used: asyncio alone would slow every start.
__getattr__ = attributes(
    __name__,
    {
        "MessageError": "sockets",
        "Received": "sockets",
        "Sender": "sockets",
        "Ticket": "ticket",
        "from_process": "process",
        "receive": "sockets",
        "receive_async": "sockets",
        "same": "process",
        "send": "sockets",
        "send_async": "sockets",
    },
)


def __dir__() -> list[str]:
    return __all__

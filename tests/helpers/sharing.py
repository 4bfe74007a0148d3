"""What other processes do with what they are sent; importable by a spawned child."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable
from typing import Any

import dmabuf
from dmabuf import share
from helpers.leaks import descriptors

MARK = b"\x5a\xa5marked"


def mark(item: Any) -> None:
    """Write into the memory of a buffer, or of the first buffer of an image."""
    with (item.buffers[0] if isinstance(item, dmabuf.Image) else item).write() as memory:
        memory[: len(MARK)] = MARK


def marked(item: Any) -> bool:
    """Whether another process has marked the memory."""
    with (item.buffers[0] if isinstance(item, dmabuf.Image) else item).read() as memory:
        return bytes(memory[: len(MARK)]) == MARK


def close(item: Any) -> None:
    """Close what was received."""
    for owner in item.buffers if isinstance(item, dmabuf.Image) else (item,):
        owner.close()


def mark_and_close(item: Any) -> int:
    """Mark the memory that came, and return its first buffer's inode."""
    owner = item.buffers[0] if isinstance(item, dmabuf.Image) else item
    mark(item)
    close(item)
    return owner.inode


def answer(connection: Any) -> None:
    """Mark all that comes through a connection, and tell how many descriptors that left."""
    gc.collect()
    before = None
    while (item := connection.recv()) is not None:
        if before is None:
            before = descriptors() - len(owners(item))
        connection.send(mark_and_close(item))
    connection.send(0 if before is None else descriptors() - before)


def owners(item: Any) -> list[Any]:
    """Return who owns the descriptors of an object."""
    return list(item.buffers) if isinstance(item, dmabuf.Image) else [item]


def mark_argument(item: Any, connection: Any) -> None:
    """Mark an argument of Process."""
    connection.send((mark_and_close(item), os.getpid()))


def redeem(tickets: Any, results: Any) -> None:
    """Redeem each ticket of a queue, and mark what it was for."""
    while (ticket := tickets.get()) is not None:
        results.put(mark_and_close(ticket.redeem()))


def redeem_one(ticket: share.Ticket) -> int:
    """Redeem a ticket in a worker of an executor."""
    return mark_and_close(ticket.redeem())


def eventually(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds; a test's own time-out ends it."""
    while not condition():
        time.sleep(0.01)

"""Whether a step in asyncio that has nothing to wait for gives the event loop a turn."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

STEPS = 4


def has_turns(step: Callable[[], Awaitable[object]]) -> bool:
    """Return whether another task has a turn each time that a step is made."""
    return asyncio.run(_count(step)) >= STEPS


async def _count(step: Callable[[], Awaitable[object]]) -> int:
    count = 0

    async def other() -> None:
        nonlocal count
        while True:
            count += 1
            await asyncio.sleep(0)

    task = asyncio.ensure_future(other())
    for _ in range(STEPS):
        await step()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    return count

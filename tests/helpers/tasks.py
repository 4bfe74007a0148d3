"""Tasks of an asyncio loop that wait, and what the loop watches for them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any


def watched() -> int:
    """Return how many descriptors the running loop's selector has, but for its own."""
    return len(asyncio.get_running_loop()._selector.get_map()) - 1  # type: ignore[attr-defined]


async def waiting(*awaitables: Awaitable[Any]) -> list[asyncio.Task[Any]]:
    """Return a task for each, once all of them wait."""

    async def wait(awaitable: Awaitable[Any]) -> Any:
        return await awaitable

    tasks = [asyncio.create_task(wait(awaitable)) for awaitable in awaitables]
    await asyncio.sleep(0)
    await asyncio.sleep(0)  # what could go on at once gives the loop a turn before
    return tasks

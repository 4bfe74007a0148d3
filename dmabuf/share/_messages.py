"""What a publisher and its subscribers say to each other; `_wire` packs it and parses it."""

from __future__ import annotations

from enum import Enum, IntEnum
from typing import NamedTuple, TypeAlias

MOST_MESSAGE = 4096
"""How many bytes of the user's a frame may carry."""
MOST_PLANES = 4
MOST_DEPTH = 64
"""How many frames one subscriber may hold."""


class Policy(Enum):
    """Which items a subscriber gets if it takes them more slowly than they are published."""

    LATEST = "latest"
    QUEUE = "queue"
    EVERY = "every"


class Start(Enum):
    """With which item a subscriber starts."""

    NEXT = "next"
    LAST = "last"


class Reason(IntEnum):
    """Why a publisher ends a connection."""

    CLOSED = 0
    HELD_TOO_LONG = 1
    REFUSED = 2


class Hello(NamedTuple):
    """A subscriber's first message."""

    depth: int
    policy: Policy
    start: Start


class Welcome(NamedTuple):
    """The publisher's answer."""

    sequence: int


class Want(NamedTuple):
    """So many more frames may be sent."""

    frames: int


class SharedMemory(NamedTuple):
    """One memory of a frame."""

    slot: int
    generation: int
    used: int


class SharedPlane(NamedTuple):
    """Where one plane of a frame's image is; `memory` counts the frame's memories."""

    memory: int
    stride: int
    offset: int


class Layout(NamedTuple):
    """What a frame's bytes are as pixels."""

    format: str
    width: int
    height: int
    modifier: int
    planes: tuple[SharedPlane, ...]
    colors: int = 0


class FrameMessage(NamedTuple):
    """One item for one subscriber."""

    sequence: int
    timestamp_ns: int
    new: int
    memories: tuple[SharedMemory, ...]
    layout: Layout | None
    message: bytes


class Release(NamedTuple):
    """The subscriber has let go of a frame."""

    slot: int
    generation: int
    sequence: int


class Retire(NamedTuple):
    """A memory will not come again."""

    slot: int
    generation: int


class Bye(NamedTuple):
    """The publisher ends the connection."""

    reason: Reason


class Busy(NamedTuple):
    """A subscriber holds as many as it may beside others: what it asked for can't come now."""

    most: int
    in_flight: int
    """What the publisher would need for one more."""


Message: TypeAlias = Hello | Welcome | Want | FrameMessage | Release | Retire | Bye | Busy

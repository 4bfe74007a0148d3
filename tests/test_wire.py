"""The messages between a publisher and its subscribers."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmabuf._scm import MessageError
from dmabuf.share import _messages, _wire
from dmabuf.share._messages import (
    Busy,
    Bye,
    FrameMessage,
    Hello,
    Layout,
    Policy,
    Reason,
    Release,
    Retire,
    SharedMemory,
    SharedPlane,
    Start,
    Want,
    Welcome,
)
from dmabuf.share._wire import FramePacker, Kind, split, unpack

pytestmark = pytest.mark.needs("outside")  # it asks no kernel

HEADER = "<4sBBHIHH"
MEMORIES = (SharedMemory(0, 7, 4096), SharedMemory(3, 9, 100))
LAYOUT = Layout("NV12", 64, 32, 0, (SharedPlane(0, 64, 0), SharedPlane(1, 64, 128)))


def message(
    kind: int,
    payload: bytes,
    *,
    magic: bytes = b"DMAR",
    version: tuple[int, int] = (1, 0),
    length: int | None = None,
    descriptors: int = 0,
    flags: int = 0,
) -> bytes:
    """Return a message as a peer would send it that keeps to no rule."""
    told = len(payload) if length is None else length
    return struct.pack(HEADER, magic, *version, kind, told, descriptors, flags) + payload


def frame(
    memories: int = 1, new: int = 0, planes: int = 0, told: int = 0, rest: bytes = bytes(16)
) -> bytes:
    """Return the bytes of a FRAME after its header."""
    return struct.pack("<QQBBBxI", 5, 6, memories, new, planes, told) + rest


@pytest.mark.parametrize(
    ("packed", "expected"),
    [
        (_wire.pack_hello(3, Policy.QUEUE, Start.LAST), Hello(3, Policy.QUEUE, Start.LAST)),
        (_wire.pack_welcome(2**64 - 1), Welcome(2**64 - 1)),
        (_wire.pack_want(2), Want(2)),
        (_wire.pack_release(1, 2, 3), Release(1, 2, 3)),
        (_wire.pack_retire(1, 2), Retire(1, 2)),
        (_wire.pack_bye(Reason.HELD_TOO_LONG), Bye(Reason.HELD_TOO_LONG)),
        (_wire.pack_busy(2, 3), Busy(2, 3)),
    ],
)
def test_a_message_means_what_was_packed(packed: bytes, expected: _messages.Message) -> None:
    assert unpack(packed, 0) == expected


@pytest.mark.parametrize("new", [0b00, 0b01, 0b10, 0b11])
@pytest.mark.parametrize("layout", [None, LAYOUT])
def test_a_frame_means_what_was_packed(new: int, layout: Layout | None) -> None:
    packer = FramePacker(1, 2, MEMORIES, layout, b"text")
    packed = packer.pack(new)
    assert unpack(packed, new.bit_count()) == FrameMessage(1, 2, new, MEMORIES, layout, b"text")


def test_the_longest_frame_is_as_long_as_a_packet_may_be() -> None:
    memories = tuple(SharedMemory(slot, 1, 2**64 - 1) for slot in range(4))
    layout = Layout("XRGB16161616ABC", 1, 1, 0, (SharedPlane(3, 1, 2),) * 4)
    packed = FramePacker(2**64 - 1, 2**64 - 1, memories, layout, bytes(4096)).pack(0b1111)
    assert len(packed) == _wire.MOST_BYTES
    assert unpack(packed, 4) is not None


MALFORMED = {
    "nothing": b"",
    "a torn header": b"DMAR\1\0",
    "another magic": message(Kind.WANT, struct.pack("<I", 1), magic=b"RAMD"),
    "another major version": message(Kind.WANT, struct.pack("<I", 1), version=(2, 0)),
    "too short for its length": message(Kind.WANT, struct.pack("<I", 1), length=5),
    "too long for its length": message(Kind.WANT, struct.pack("<I", 1), length=3),
    "a length of 32 bits": message(Kind.WANT, struct.pack("<I", 1), length=2**32 - 1),
    "an unknown type": message(99, b""),
    "descriptors that didn't come": message(Kind.WANT, struct.pack("<I", 1), descriptors=1),
    "a WANT that is too long": message(Kind.WANT, bytes([1]) * 5),
    "a WANT of nothing": message(Kind.WANT, bytes(4)),
    "a HELLO that is too short": message(Kind.HELLO, bytes(7)),
    "a HELLO of no depth": message(Kind.HELLO, bytes(8)),
    "a HELLO of an unknown policy": message(Kind.HELLO, struct.pack("<IBBxx", 1, 3, 0)),
    "a HELLO of an unknown start": message(Kind.HELLO, struct.pack("<IBBxx", 1, 0, 2)),
    "a RELEASE that is too short": message(Kind.RELEASE, bytes(15)),
    "a RETIRE that is too short": message(Kind.RETIRE, bytes(7)),
    "a BYE that is too short": message(Kind.BYE, bytes(3)),
    "a WELCOME that is too short": message(Kind.WELCOME, bytes(7)),
    "a FRAME that is too short": message(Kind.FRAME, bytes(23)),
    "a FRAME of no memory": message(Kind.FRAME, frame(0, rest=b"")),
    "a FRAME of five memories": message(Kind.FRAME, frame(5, rest=bytes(80))),
    "a FRAME with a new memory too many": message(Kind.FRAME, frame(1, new=2), descriptors=0),
    "a FRAME without its descriptor": message(Kind.FRAME, frame(1, new=1)),
    "a FRAME of five planes": message(Kind.FRAME, frame(planes=5, rest=bytes(128))),
    "a FRAME without its layout": message(Kind.FRAME, frame(planes=1)),
    "a FRAME without its bytes": message(Kind.FRAME, frame(told=1)),
    "a FRAME with bytes too many": message(Kind.FRAME, frame(rest=bytes(17))),
    "a FRAME of 4097 bytes": message(Kind.FRAME, frame(told=4097, rest=bytes(16 + 4097))),
    "a FRAME with a slot twice": message(Kind.FRAME, frame(2, rest=bytes(32))),
    "a FRAME with a plane nowhere": message(
        Kind.FRAME,
        frame(planes=1, rest=bytes(16) + bytes(32) + struct.pack("<IIQ", 1, 0, 0)),
    ),
    "a FRAME of a format that is no text": message(
        Kind.FRAME, frame(planes=1, rest=bytes(16) + b"\xff" * 16 + bytes(16) + bytes(16))
    ),
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED.keys())
def test_what_is_malformed_is_no_message(data: bytes) -> None:
    with pytest.raises(MessageError):
        unpack(data, 0)


def test_another_major_version_is_refused_with_both_versions_named() -> None:
    with pytest.raises(MessageError, match=r"version 2\.7 .* version 1\.0"):
        unpack(message(Kind.WANT, bytes(4), version=(2, 7)), 0)


def test_an_unknown_type_is_skipped_if_its_flag_says_so() -> None:
    assert unpack(message(99, b"more", flags=_wire.OPTIONAL), 0) is None


def test_an_optional_message_brings_no_descriptors() -> None:
    with pytest.raises(MessageError):
        unpack(message(99, b"", flags=_wire.OPTIONAL, descriptors=1), 1)


def test_a_later_minor_version_may_add_to_a_message() -> None:
    longer = message(Kind.WANT, struct.pack("<I", 2) + b"new", version=(1, 1))
    assert unpack(longer, 0) == Want(2)


@given(st.binary(max_size=300), st.integers(0, 3))
def test_no_bytes_do_more_than_raise(data: bytes, descriptors: int) -> None:
    try:
        unpack(data, descriptors)
    except MessageError:
        pass


@pytest.mark.parametrize("layout", [None, LAYOUT])
def test_frames_on_the_same_memories_differ_in_what_is_split_from_them(
    layout: Layout | None,
) -> None:
    first, *about = split(FramePacker(1, 2, MEMORIES, layout, b"text").pack(0))
    assert about == [1, 2, b"text"]
    second, *about = split(FramePacker(2**64 - 1, 3, MEMORIES, layout, b"").pack(0))
    assert about == [2**64 - 1, 3, b""]
    assert first == second != b""
    others = (
        FramePacker(1, 2, MEMORIES, layout, b"text").pack(1),
        FramePacker(1, 2, MEMORIES[:1], layout, b"text").pack(0),
        FramePacker(1, 2, MEMORIES[::-1], layout, b"text").pack(0),
        FramePacker(1, 2, MEMORIES, LAYOUT._replace(width=66), b"text").pack(0),
    )
    assert first not in [split(other)[0] for other in others]


@given(
    st.binary(max_size=80),
    st.integers(0, 2**32 - 1),
    st.binary(min_size=1, max_size=8),
    st.integers(-80, 80),
)
def test_what_has_all_in_common_with_a_frame_is_one(
    text: bytes, at: int, other: bytes, longer: int
) -> None:
    packed = bytearray(FramePacker(1, 2, MEMORIES, LAYOUT, text).pack(0))
    same, *_ = split(bytes(packed))
    at %= len(packed)
    packed[at : at + len(other)] = other
    data = bytes(packed)[: len(packed) + longer] + bytes(max(longer, 0))
    found, sequence, timestamp_ns, message = split(data)
    if found == same:
        frame = FrameMessage(sequence, timestamp_ns, 0, MEMORIES, LAYOUT, message)
        assert unpack(data, 0) == frame


@given(st.sampled_from(list(Kind)), st.binary(max_size=300), st.integers(0, 2), st.integers(0, 2))
def test_no_payload_does_more_than_raise(
    kind: Kind, payload: bytes, descriptors: int, minor: int
) -> None:
    try:
        unpack(message(kind, payload, version=(1, minor), descriptors=descriptors), descriptors)
    except MessageError:
        pass


@given(st.integers(0, 2**32 - 1), st.binary(min_size=1, max_size=8))
def test_a_frame_with_bytes_overwritten_does_no_more_than_raise(at: int, other: bytes) -> None:
    packed = bytearray(FramePacker(1, 2, MEMORIES, LAYOUT, b"text").pack(0b11))
    at %= len(packed)
    packed[at : at + len(other)] = other
    try:
        unpack(bytes(packed), 2)
    except MessageError:
        pass

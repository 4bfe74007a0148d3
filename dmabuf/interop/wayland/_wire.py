"""Wayland's messages as bytes: requests packed, events parsed and proved.

A message is its object, its size and opcode, and its arguments in words of 32 bits. An event's
signature has a letter for each argument: u a number, i a signed one, o an object, n a new one, s a
text, a bytes, h a descriptor, which comes beside the bytes. See chapter 4 of Wayland's book, "Wire
Format".
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import Any

from dmabuf._fd import Descriptor

HEADER = Struct("=II")
_UNSIGNED, _SIGNED = Struct("=I"), Struct("=i")
_MOST = 0xFFFF


class MalformedError(ValueError):
    """The compositor sent what is no message, or not the one that it is said to be."""


def pack(sender: int, opcode: int, *arguments: int | str) -> bytes:
    """Return a request: its numbers and texts, in their order; descriptors go beside it."""
    body = b"".join(map(_packed, arguments))
    size = HEADER.size + len(body)
    if size > _MOST:
        raise ValueError(f"a request of {size} bytes is longer than the {_MOST} that Wayland takes")
    return HEADER.pack(sender, size << 16 | opcode) + body


def _packed(argument: int | str) -> bytes:
    if isinstance(argument, int):
        return _UNSIGNED.pack(argument & 0xFFFFFFFF)
    text = argument.encode() + b"\0"
    return _UNSIGNED.pack(len(text)) + text + bytes(-len(text) % 4)


def parse(signature: str, body: bytes, descriptors: list[Descriptor]) -> list[Any]:
    """Return an event's arguments; its descriptors are taken out of a list, and the caller's."""
    values: list[Any] = []
    try:
        words = _Words(body)
        for letter in signature:
            if letter != "h":
                values.append(words.take(letter))
            elif descriptors:
                # No signal handler runs here, between the two.
                values.append(descriptors.pop(0))
            else:
                raise MalformedError("an event came without its descriptor")
        if words.left:
            raise MalformedError(f"an event came with {words.left} bytes more than it has")
    except BaseException:
        close(values)
        raise
    return values


def close(values: list[Any]) -> None:
    """Close the descriptors among an event's arguments."""
    for value in values:
        if isinstance(value, Descriptor):
            value.close()


class _Words:
    """The arguments of an event that are still to be parsed."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    @property
    def left(self) -> int:
        return len(self._body)

    def take(self, letter: str) -> Any:
        number = _UNSIGNED.unpack(self._next(4))[0]
        if letter == "i":
            return number - (1 << 32) if number >> 31 else number
        if letter not in "sa":
            return number
        data = self._next(number + -number % 4)[:number]
        if letter == "a":
            return data
        return data.rstrip(b"\0").decode(errors="replace")

    def _next(self, size: int) -> bytes:
        if size > len(self._body):
            raise MalformedError("an event is shorter than its arguments")
        data, self._body = self._body[:size], self._body[size:]
        return data


def words(data: bytes) -> Iterator[int]:
    """Return the numbers of 32 bits in an array."""
    return (number for (number,) in _UNSIGNED.iter_unpack(data[: len(data) // 4 * 4]))

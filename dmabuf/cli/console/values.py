"""What an argument's text stands for: counts, times, names."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import TypeVar

_SHORTEST_DELAY = 0.1  # seconds
_Value = TypeVar("_Value")


def typed(parse: Callable[[str], _Value]) -> Callable[[str], _Value]:
    """Keep a ValueError's own words, which argparse would replace."""

    def typed(text: str) -> _Value:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return typed


def parse_heap(text: str) -> str:
    """Return a heap's name or path; ValueError if it is empty."""
    if not text:
        raise ValueError("a heap's name can't be empty")
    return text


def parse_count(text: str) -> int:
    """Return a number from 1; ValueError if it is none."""
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text)):
        raise ValueError(f"{text!r} is not a count; write a number from 1")
    return int(text)


def parse_number(text: str) -> int:
    """Return a number from 0; ValueError if it is none."""
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise ValueError(f"{text!r} is not a number; write one from 0")
    return int(text)


def parse_seconds(text: str) -> float:
    """Return a time that can be waited for; ValueError if it is none."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds <= 1e9:
        raise ValueError(f"{text!r} is not a time; write seconds, such as 10 or 0.5")
    return seconds


def parse_delay(text: str) -> float:
    """Return a time from look to look; ValueError if it is none, or too short."""
    seconds = parse_seconds(text)
    if seconds < _SHORTEST_DELAY:
        raise ValueError(f"{text!r} is too short; write {_SHORTEST_DELAY} or more")
    return seconds


def parse_name(text: str) -> str:
    """Return a buffer's name; ValueError if it is none."""
    if not text:
        raise ValueError("a buffer's name can't be empty")
    return text


def parse_mode(text: str) -> int:
    """Return a path's permissions, which are written as chmod's; ValueError if they are none."""
    if not (text.isascii() and text.isdigit() and len(text) <= 4) or set(text) & set("89"):
        raise ValueError(f"{text!r} are not permissions; write them as for chmod, such as 660")
    mode = int(text, 8)
    if mode > 0o777:
        raise ValueError(f"{text!r} are not permissions of a socket; 777 is the maximum")
    return mode


def parse_dimensions(text: str) -> tuple[int, int]:
    """Return a width and a height in pixels; ValueError if they are none."""
    width, cross, height = text.lower().partition("x")
    numbers = [number for number in (width, height) if number.isascii() and number.isdigit()]
    if not cross or len(numbers) != 2 or max(map(len, numbers)) > 5 or not all(map(int, numbers)):
        raise ValueError(f"{text!r} is not a picture size; write pixels, such as 1280x720")
    return int(width), int(height)


def parse_socket(text: str) -> str:
    """Return a socket's path, or "@name"; ValueError if it can't be one."""
    from dmabuf.share._listening import address

    address(text)
    return text


def parse_depth(text: str) -> int:
    """Return how many frames a subscriber keeps; ValueError if it can't be so many."""
    from dmabuf.share._messages import MOST_DEPTH

    depth = parse_count(text)
    if depth > MOST_DEPTH:
        raise ValueError(f"{text!r} are too many frames; {MOST_DEPTH} is the maximum")
    return depth

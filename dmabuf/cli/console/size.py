"""Sizes and speeds as people write them: 64M and 1.5G in, 64 MiB and 2.1 GiB/s out."""

from __future__ import annotations

import re

_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")
_HEXADECIMAL = re.compile(r"0[xX][0-9a-fA-F]{1,16}")
_BYTES = re.compile(r"[0-9]{1,20}[bB]?")
_UNITED = re.compile(r"([0-9]{1,20})(?:\.([0-9]{1,20}))?([kKmMgGtT])([iI][bB]?|[bB])?")


def parse_size(text: str) -> int:
    """Return a size in bytes; ValueError says what is wrong with it."""
    if _HEXADECIMAL.fullmatch(text):
        size = int(text, 16)
    elif _BYTES.fullmatch(text):
        size = int(text.rstrip("Bb"))
    else:
        size = _with_unit(text)
    if size < 1:
        raise ValueError("a size must be at least 1 byte")
    return size


def _with_unit(text: str) -> int:
    match = _UNITED.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a size; write bytes, or 64K, 64M, 1.5G or 64MiB")
    whole, fraction, unit, suffix = match.groups(default="")
    if suffix.upper() == "B":
        clear = f"{text[:-2]}{unit.upper()}"
        raise ValueError(f"{text!r} could be decimal or binary; write {clear} or {clear}iB")
    shift = 10 * ("KMGT".index(unit.upper()) + 1)
    parts: int = 10 ** len(fraction)
    return -((-int(whole + fraction) << shift) // parts)


def exact(size: int) -> str:
    """Return a size in the largest unit that divides it: "64 MiB", "5000 bytes"."""
    if size == 1:
        return "1 byte"
    power = 0
    while size and power + 1 < len(_UNITS) and size % 1024 ** (power + 1) == 0:
        power += 1
    return f"{size // 1024**power} {_UNITS[power]}"


def rough(size: float) -> str:
    """Return a size with two or three digits: "23.5 GiB"."""
    power = 0
    while size >= 1000 and power + 1 < len(_UNITS):
        size /= 1024
        power += 1
    return f"{size:.{0 if size >= 100 or not power else 1}f} {_UNITS[power]}"


def brief(size: int) -> str:
    """Return a size for a column of sizes: "512", "4.0K", "31.6M"."""
    if abs(size) < 1024:
        return str(size)
    rounded, power = float(size), 0
    while abs(rounded) >= 1023.95 and power + 1 < len(_UNITS):
        rounded /= 1024
        power += 1
    return f"{rounded:.1f}{_UNITS[power][0]}"


def duration(seconds: float) -> str:
    """Return a time with its unit: "800 ns", "35 us", "1.2 ms", "3.4 s"."""
    if seconds >= 1:
        return f"{seconds:.1f} s"
    if seconds >= 1e-3:
        return f"{seconds * 1e3:.1f} ms"
    return f"{seconds * 1e6:.0f} us" if seconds >= 1e-6 else f"{seconds * 1e9:.0f} ns"


def short(size: float) -> str:
    """Return a size for a narrow column: "4K", "64M", "1.5G"; three digits at the most."""
    power = 0
    while size >= 1000 and power + 1 < len(_UNITS):
        size /= 1024
        power += 1
    digits = f"{size:.{1 if power and size < 100 else 0}f}".removesuffix(".0")
    return f"{digits}{' KMGT'[power].strip()}"

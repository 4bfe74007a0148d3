"""What a compositor takes: pixel formats with their modifiers, and how an image is told to it."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from struct import Struct

from dmabuf._fd import Descriptor, Hold
from dmabuf.errors import RefusedError
from dmabuf.image import Image, PixelFormat
from dmabuf.image.formats import LINEAR, from_drm
from dmabuf.interop.wayland._client import Client, Events
from dmabuf.interop.wayland._globals import (
    DMABUF,
    DMABUF_GET_DEFAULT_FEEDBACK,
    FEEDBACK_DESTROY,
    Globals,
)
from dmabuf.interop.wayland._wire import MalformedError

IMPLICIT = 0x00FFFFFFFFFFFFFF  # DRM_FORMAT_MOD_INVALID: as exporter and driver know it
_ENTRY = Struct("=IxxxxQ")
_MOST = 1 << 20  # bytes of a table of formats


class Formats:
    """The formats and modifiers of a compositor, from version 4 on by its feedback."""

    def __init__(self, client: Client, globals: Globals, timeout: float | None) -> None:
        self._codes: dict[int, list[int]] = {}
        self._table: list[tuple[int, int]] = []
        events: Events = {0: ("u", None), 1: ("uuu", self._note_modifier)}
        self.manager = globals.bind(DMABUF, events)
        feedback = 0
        if globals.version(DMABUF) >= 4:
            feedback = client.new(self._feedback())
            client.send(self.manager, DMABUF_GET_DEFAULT_FEEDBACK, feedback)
        client.round_trip("to tell its formats", timeout)
        if feedback:
            client.send(feedback, FEEDBACK_DESTROY)
            client.forget(feedback)

    def _feedback(self) -> Events:
        return {
            0: ("", None),  # done
            1: ("hu", self._note_table),
            2: ("a", None),
            3: ("", None),  # tranche_done
            4: ("a", None),
            5: ("a", self._note_indices),
            6: ("u", None),
        }

    def _note_modifier(self, code: int, high: int, low: int) -> None:
        self._add(code, high << 32 | low)

    def _note_table(self, file: Descriptor, size: int) -> None:
        """Read a table: by a call, since its sender could cut a mapping short under us."""
        if size > _MOST:
            raise MalformedError(f"the compositor sent a table of formats of {size} bytes")
        with Hold(file) as number:
            data = os.pread(number, size, 0)
        whole = len(data) // _ENTRY.size * _ENTRY.size
        self._table = list(_ENTRY.iter_unpack(data[:whole]))

    def _note_indices(self, data: bytes) -> None:
        for place in range(0, len(data) - 1, 2):
            index = int.from_bytes(data[place : place + 2], "little")
            if index >= len(self._table):
                raise MalformedError(f"the compositor's table has no format {index}")
            self._add(*self._table[index])

    def _add(self, code: int, modifier: int) -> None:
        modifiers = self._codes.setdefault(code, [])
        if modifier not in modifiers:
            modifiers.append(modifier)

    def known(self) -> dict[PixelFormat, list[int]]:
        """Return the formats of our table, each with its modifiers."""
        return dict(self._known())

    def _known(self) -> Iterator[tuple[PixelFormat, list[int]]]:
        for code, modifiers in self._codes.items():
            try:
                format = from_drm(code)
            except ValueError:
                continue
            yield format, [one for one in modifiers if one != IMPLICIT]

    def choose_modifier(self, image: Image) -> int:
        """Return the modifier that an image is told with; RefusedError for what isn't taken."""
        modifiers = self._codes.get(image.format.drm or 0)
        what = f"the Wayland compositor can't show {image!r}"
        if modifiers is None:
            known = ", ".join(format.name for format in self.known())
            raise RefusedError(
                errno.EINVAL,
                f"{what}: it has no {image.format}, only {known}; have the image's source give one"
                " of these, or draw `image.to_rgb()` into an image of one",
            )
        if image.modifier in modifiers:
            return image.modifier
        if image.modifier == LINEAR and IMPLICIT in modifiers:
            return IMPLICIT
        known = ", ".join(hex(one) for one in modifiers if one != IMPLICIT) or "none"
        raise RefusedError(
            errno.EINVAL,
            f"{what}: it has no modifier {image.modifier:#x} of {image.format}; it has {known}",
        )

"""The planes of an image as numpy arrays; imported by the first scope."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy

from dmabuf._array import view
from dmabuf.image.planes import Places, View


def plane_arrays(
    places: Places, memories: Sequence[memoryview]
) -> tuple[numpy.ndarray[Any, Any], ...]:
    """Return planes, whose places were checked, as arrays on the memory of each buffer."""
    views = places.views
    if views is None:
        views = places.views = _views(places)
    arrays = []
    for buffer, row, rows, offset, strides in views:
        if strides is None:
            # One call makes the array and has it keep the memory. The names of its arguments would
            # take as long as the call.
            array = numpy.frombuffer(memories[buffer], row, rows, offset)
        else:
            array = view(memories[buffer], (rows, *row.shape), row.base, offset, strides)
        arrays.append(array)
    return tuple(arrays)


def _views(places: Places) -> list[View]:
    views = []
    pairs = zip(places.planes, places.format.planes, strict=True)
    for (buffer, offset, stride, columns, rows), layout in pairs:
        kind = numpy.dtype(layout.dtype)
        shape: tuple[int, ...] = (columns,)
        strides: tuple[int, ...] = (stride, kind.itemsize)
        if layout.channels > 1:
            shape = columns, layout.channels
            strides = stride, layout.channels * kind.itemsize, kind.itemsize
        row = numpy.dtype((kind, shape))
        views.append(View(buffer, row, rows, offset, None if row.itemsize == stride else strides))
    return views

"""The planes of an image as numpy arrays; imported by the first scope."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy

from dmabuf._array import view
from dmabuf.image.layout import PlaneLayout
from dmabuf.image.planes import Plane


def plane_arrays(
    planes: Sequence[Plane], layouts: Sequence[PlaneLayout], memories: Mapping[int, memoryview]
) -> tuple[numpy.ndarray[Any, Any], ...]:
    """Return planes, whose places were checked, as arrays on the memory of each buffer's id."""
    arrays = []
    for (buffer, offset, stride, columns, rows), layout in zip(planes, layouts, strict=True):
        kind = numpy.dtype(layout.dtype)
        size, channels = kind.itemsize, layout.channels
        shape: tuple[int, ...] = (rows, columns)
        strides: tuple[int, ...] = (stride, size)
        if channels > 1:
            shape, strides = (rows, columns, channels), (stride, channels * size, size)
        arrays.append(view(memories[id(buffer)], shape, kind, offset, strides))
    return tuple(arrays)

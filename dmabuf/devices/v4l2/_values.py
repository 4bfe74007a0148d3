"""The values of controls, between Python's objects and the bytes that the kernel takes."""

from __future__ import annotations

import errno
import operator
import struct
from collections.abc import Callable
from struct import Struct
from typing import TYPE_CHECKING, Any, Union

from dmabuf.devices.v4l2 import _controls_ioctl
from dmabuf.devices.v4l2.controls import Control, ControlFlag, ControlType, read_menu
from dmabuf.errors import os_error

if TYPE_CHECKING:
    import numpy

ControlValue = Union[int, str, bytes, tuple[int, ...], "numpy.ndarray[Any, Any]"]
"""The value of a control: what it is depends on its type, see `ControlType`."""

_SIGNED, _UNSIGNED, _LONG = Struct("=i4x"), Struct("=I4x"), Struct("=q")
_NUMBERS = {ControlType.BITMASK: _UNSIGNED, ControlType.INTEGER64: _LONG}
_POINTED_NUMBERS = {
    ControlType.U8: Struct("=B"),
    ControlType.U16: Struct("=H"),
    ControlType.U32: Struct("=I"),
}
_TUPLES = {ControlType.AREA: Struct("=2I"), ControlType.RECT: Struct("=2i2I")}
_ELEMENTS = {
    ControlType.U8: "u1",
    ControlType.U16: "u2",
    ControlType.U32: "u4",
    ControlType.BITMASK: "u4",
    ControlType.INTEGER64: "i8",
    **dict.fromkeys((ControlType.INTEGER, ControlType.BOOLEAN, ControlType.MENU), "i4"),
}
"""The numpy types of the elements of arrays."""


def read_value(fd: int, control: Control) -> ControlValue:
    """Return the value of a control."""
    size = control.elem_size * control.elems if _is_pointed(control) else _LONG.size
    try:
        value = _controls_ioctl.g_ext_ctrl(fd, control.id, size, pointed=_is_pointed(control))
    except OSError as error:
        _explain(fd, control, error)
        raise
    return _decoded(control, value)


def set_value(fd: int, control: Control, value: object) -> ControlValue | None:
    """Set a control, and return the value that the driver took; None if it can't be read."""
    return _give(_controls_ioctl.s_ext_ctrl, fd, control, value)


def try_value(fd: int, control: Control, value: object) -> ControlValue | None:
    """Return the value that the driver would take; None if it can't be read."""
    return _give(_controls_ioctl.try_ext_ctrl, fd, control, value)


def _give(
    issue: Callable[..., bytes], fd: int, control: Control, value: object
) -> ControlValue | None:
    data = _encoded(control, value)
    try:
        taken = issue(fd, control.id, data, pointed=_is_pointed(control))
    except OSError as error:
        _explain(fd, control, error)
        raise
    return _decoded(control, taken) if control.readable else None


def _is_pointed(control: Control) -> bool:
    return ControlFlag.HAS_PAYLOAD in control.flags


def _decoded(control: Control, data: bytes) -> ControlValue:
    if not _is_pointed(control):
        return int(_NUMBERS.get(control.type, _SIGNED).unpack(data)[0])
    if control.dims:
        return _decoded_array(control, data) if control.type in _ELEMENTS else data
    if control.type is ControlType.STRING:
        return data.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")
    if control.type in _TUPLES:
        return _TUPLES[control.type].unpack(data)
    if control.type in _POINTED_NUMBERS:
        return int(_POINTED_NUMBERS[control.type].unpack(data)[0])
    return data


def _decoded_array(control: Control, data: bytes) -> numpy.ndarray[Any, Any]:
    import numpy

    array = numpy.frombuffer(bytearray(data), _ELEMENTS[control.type])
    return array if ControlFlag.DYNAMIC_ARRAY in control.flags else array.reshape(control.dims)


def _encoded(control: Control, value: object) -> bytes:
    if not _is_pointed(control):
        return _number(control, _NUMBERS.get(control.type, _SIGNED), value)
    if control.dims:
        if control.type in _ELEMENTS:
            return _array(control, value)
    elif control.type is ControlType.STRING:
        return _text(control, value)
    elif control.type in _TUPLES:
        return _tuple(control, _TUPLES[control.type], value)
    elif control.type in _POINTED_NUMBERS:
        return _number(control, _POINTED_NUMBERS[control.type], value)
    if not isinstance(value, bytes | bytearray | memoryview):
        kind = type(value).__name__
        raise TypeError(f"{control.key} takes the bytes of the kernel's struct, not {kind}")
    return bytes(value)


def _number(control: Control, layout: Struct, value: object) -> bytes:
    number = _whole(control, value)
    try:
        return layout.pack(number)
    except struct.error as error:
        message = f"{control.key} can't hold {number}: it is of type {control.type.name}"
        raise ValueError(message) from error


def _text(control: Control, value: object) -> bytes:
    if not isinstance(value, str):
        raise TypeError(f"{control.key} is set to a text, not to {type(value).__name__}")
    data = value.encode("utf-8", "surrogateescape")
    low, high = control.minimum, control.maximum
    if b"\0" in data or not low <= len(data) <= high:
        raise ValueError(f"{control.key} is a text of {low} to {high} bytes, not {value!r}")
    return data + b"\0"


def _tuple(control: Control, layout: Struct, value: Any) -> bytes:
    numbers = [_whole(control, number) for number in value]
    try:
        return layout.pack(*numbers)
    except struct.error as error:
        kind = control.type.name
        raise ValueError(f"{control.key} is set to a tuple (see {kind}), not {value!r}") from error


def _whole(control: Control, value: Any) -> int:
    try:
        return operator.index(value)
    except TypeError:
        kind = type(value).__name__
        message = f"{control.key} ({control.type.name}) is set to whole numbers, not to {kind}"
        raise TypeError(message) from None


def _array(control: Control, value: Any) -> bytes:
    import numpy

    given, element = numpy.asarray(value), numpy.dtype(_ELEMENTS[control.type])
    dynamic = ControlFlag.DYNAMIC_ARRAY in control.flags
    if dynamic:
        fits = given.ndim == 1 and 0 < len(given) <= control.dims[0]
    else:
        fits = given.shape == control.dims
    if not fits:
        upto = "at most " if dynamic else ""
        raise ValueError(f"{control.key} has the shape {upto}{control.dims}, not {given.shape}")
    if given.dtype.kind not in "iub":
        raise TypeError(f"{control.key} is set to an array of whole numbers, not to {given.dtype}")
    limits = numpy.iinfo(element)
    if given.min() < limits.min or given.max() > limits.max:
        raise ValueError(f"{control.key} has elements from {limits.min} to {limits.max}")
    return given.astype(element).tobytes()


def _explain(fd: int, control: Control, error: OSError) -> None:
    """Raise the error of a control's ioctl with its cause, if that is known."""
    number, flags = error.errno, control.flags
    if number == errno.EACCES and ControlFlag.READ_ONLY in flags:
        cause = "it is read-only"
    elif number == errno.EACCES and ControlFlag.WRITE_ONLY in flags:
        cause = "it can be set and not read"
    elif number in (errno.ERANGE, errno.EINVAL) and (menu := read_menu(fd, control)):
        values = ", ".join(f"{value} ({name})" for value, name in menu.items())
        cause = f"its values are {values}"
    elif number not in (None, errno.ENODEV) and control.broken:
        cause = "the device fails when it is asked about this control; others are not affected"
    else:
        return
    raise os_error(number or errno.EIO, cause) from error

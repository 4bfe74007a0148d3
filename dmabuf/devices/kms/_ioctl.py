"""The ioctls of mode setting, one function each: include/uapi/drm/drm_mode.h, and drm.h's events.

Lists are asked for until they fit: a monitor may come or go between two calls.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from struct import Struct
from typing import Any, NamedTuple

from dmabuf._ioctl import READ, WRITE, address, call, make, request, struct_request, text
from dmabuf.devices.kms._uapi import ffi

_struct = partial(struct_request, ffi, "d")
_BOTH = READ | WRITE
DRM_IOCTL_SET_CLIENT_CAP = _struct(WRITE, 0x0D, "drm_set_client_cap")
DRM_IOCTL_AUTH_MAGIC = _struct(WRITE, 0x11, "drm_auth")
DRM_IOCTL_MODE_GETRESOURCES = _struct(_BOTH, 0xA0, "drm_mode_card_res")
DRM_IOCTL_MODE_GETCRTC = _struct(_BOTH, 0xA1, "drm_mode_crtc")
DRM_IOCTL_MODE_SETCRTC = _struct(_BOTH, 0xA2, "drm_mode_crtc")
DRM_IOCTL_MODE_GETENCODER = _struct(_BOTH, 0xA6, "drm_mode_get_encoder")
DRM_IOCTL_MODE_GETCONNECTOR = _struct(_BOTH, 0xA7, "drm_mode_get_connector")
DRM_IOCTL_MODE_GETPROPERTY = _struct(_BOTH, 0xAA, "drm_mode_get_property")
DRM_IOCTL_MODE_GETPROPBLOB = _struct(_BOTH, 0xAC, "drm_mode_get_blob")
DRM_IOCTL_MODE_RMFB = request(_BOTH, "d", 0xAF, 4)
DRM_IOCTL_MODE_PAGE_FLIP = _struct(_BOTH, 0xB0, "drm_mode_crtc_page_flip")
DRM_IOCTL_MODE_GETPLANERESOURCES = _struct(_BOTH, 0xB5, "drm_mode_get_plane_res")
DRM_IOCTL_MODE_GETPLANE = _struct(_BOTH, 0xB6, "drm_mode_get_plane")
DRM_IOCTL_MODE_ADDFB2 = _struct(_BOTH, 0xB8, "drm_mode_fb_cmd2")
DRM_IOCTL_MODE_OBJ_GETPROPERTIES = _struct(_BOTH, 0xB9, "drm_mode_obj_get_properties")
DRM_IOCTL_MODE_ATOMIC = _struct(_BOTH, 0xBC, "drm_mode_atomic")
DRM_IOCTL_MODE_CREATEPROPBLOB = _struct(_BOTH, 0xBD, "drm_mode_create_blob")
DRM_IOCTL_MODE_DESTROYPROPBLOB = _struct(_BOTH, 0xBE, "drm_mode_destroy_blob")

DRM_CLIENT_CAP_UNIVERSAL_PLANES, DRM_CLIENT_CAP_ATOMIC = 2, 3
DRM_CLIENT_CAP_WRITEBACK_CONNECTORS = 5
DRM_MODE_CONNECTOR_WRITEBACK = 18
DRM_MODE_TYPE_PREFERRED = 8
DRM_MODE_FLAG_INTERLACE, DRM_MODE_FLAG_DBLSCAN = 16, 32
DRM_MODE_FB_MODIFIERS = 2
DRM_MODE_PAGE_FLIP_EVENT = 1
DRM_MODE_ATOMIC_NONBLOCK, DRM_MODE_ATOMIC_ALLOW_MODESET = 0x200, 0x400
ANY_OBJECT = 0
FLIP_COMPLETE = 2  # DRM_EVENT_FLIP_COMPLETE

_ROOM = 32
_HEADER = Struct("=II")  # struct drm_event
_EVENT = Struct("=IIQIIII")  # struct drm_event_vblank
EVENTS_BYTES = 4096  # what the kernel keeps for one file: drivers/gpu/drm/drm_file.c


def _call(fd: int, name: str, struct: Any) -> None:
    call(fd, globals()[name], ffi.buffer(struct), name)


def _make(fd: int, name: str, struct: Any, made: list[int], at: int | None = None) -> None:
    make(fd, globals()[name], ffi.buffer(struct), name, made, at=at)


def set_client_cap(fd: int, capability: int, value: int) -> None:
    """Say what this client can do; OSError (EOPNOTSUPP) if the driver can't."""
    data = ffi.new("struct drm_set_client_cap *", [capability, value])
    _call(fd, "DRM_IOCTL_SET_CLIENT_CAP", data)


def auth_magic(fd: int, magic: int) -> None:
    """Authenticate another client; OSError (EACCES) without mastery, EINVAL for no client's."""
    _call(fd, "DRM_IOCTL_AUTH_MAGIC", ffi.new("struct drm_auth *", [magic]))


class Resources(NamedTuple):
    """The objects of a display device, by their ids."""

    crtcs: list[int]
    connectors: list[int]


def get_resources(fd: int) -> Resources:
    """Return a device's CRTCs and connectors; OSError (EOPNOTSUPP) if it has no mode setting."""
    room = _ROOM
    while True:
        crtcs, connectors = ffi.new("uint32_t[]", room), ffi.new("uint32_t[]", room)
        pointers = {
            "crtc_id_ptr": address(ffi, crtcs),
            "connector_id_ptr": address(ffi, connectors),
        }
        counts = {"count_crtcs": room, "count_connectors": room}
        data: Any = ffi.new("struct drm_mode_card_res *", pointers | counts)
        _call(fd, "DRM_IOCTL_MODE_GETRESOURCES", data)
        if (most := max(data.count_crtcs, data.count_connectors)) <= room:
            break
        room = most
    return Resources(list(crtcs[0 : data.count_crtcs]), list(connectors[0 : data.count_connectors]))


def get_connector(fd: int, connector: int) -> tuple[Any, list[int], list[bytes]]:
    """Return a connector's struct, its encoders, and its modes: structs drm_mode_modeinfo.

    The master has the kernel ask the monitor, which takes its time.
    """
    data: Any = ffi.new("struct drm_mode_get_connector *", {"connector_id": connector})
    _call(fd, "DRM_IOCTL_MODE_GETCONNECTOR", data)
    while True:
        room, encoder_room = max(data.count_modes, 1), data.count_encoders  # 0 would ask again
        modes = ffi.new("struct drm_mode_modeinfo[]", room)
        encoders = ffi.new("uint32_t[]", encoder_room)
        counts = {"count_modes": room, "count_encoders": encoder_room}
        pointers = {"modes_ptr": address(ffi, modes), "encoders_ptr": address(ffi, encoders)}
        fields = {"connector_id": connector} | counts | pointers
        data = ffi.new("struct drm_mode_get_connector *", fields)
        _call(fd, "DRM_IOCTL_MODE_GETCONNECTOR", data)
        if data.count_modes <= room and data.count_encoders <= encoder_room:
            break
    found = [bytes(ffi.buffer(modes + n)) for n in range(data.count_modes)]
    return data, list(encoders[0 : data.count_encoders]), found


def mode_info(timings: bytes) -> Any:
    """Return a mode's struct."""
    return ffi.from_buffer("struct drm_mode_modeinfo *", timings)


def mode_name(timings: bytes) -> str:
    """Return the kernel's name of a mode."""
    return text(ffi.buffer(mode_info(timings).name))


def get_encoder(fd: int, encoder: int) -> tuple[int, int]:
    """Return the CRTC that an encoder is on, 0 for none, and a mask of those that it can be on."""
    data: Any = ffi.new("struct drm_mode_get_encoder *", {"encoder_id": encoder})
    _call(fd, "DRM_IOCTL_MODE_GETENCODER", data)
    return data.crtc_id, data.possible_crtcs


def get_planes(fd: int) -> list[int]:
    """Return the ids of the planes."""
    room = _ROOM
    while True:
        planes = ffi.new("uint32_t[]", room)
        data: Any = ffi.new("struct drm_mode_get_plane_res *", [address(ffi, planes), room])
        _call(fd, "DRM_IOCTL_MODE_GETPLANERESOURCES", data)
        if data.count_planes <= room:
            return list(planes[0 : data.count_planes])
        room = data.count_planes


def get_plane(fd: int, plane: int) -> tuple[Any, list[int]]:
    """Return a plane's struct and its formats, as DRM's codes."""
    room = 0
    while True:
        formats = ffi.new("uint32_t[]", room)
        fields = {"plane_id": plane, "count_format_types": room}
        fields["format_type_ptr"] = address(ffi, formats)
        data: Any = ffi.new("struct drm_mode_get_plane *", fields)
        _call(fd, "DRM_IOCTL_MODE_GETPLANE", data)
        if data.count_format_types <= room:
            return data, list(formats[0 : data.count_format_types])
        room = data.count_format_types


def get_properties(fd: int, thing: int) -> dict[str, tuple[int, int]]:
    """Return the id and the value of each property of an object, by name."""
    room = _ROOM
    while True:
        ids, values = ffi.new("uint32_t[]", room), ffi.new("uint64_t[]", room)
        fields = [address(ffi, ids), address(ffi, values), room, thing, ANY_OBJECT]
        data: Any = ffi.new("struct drm_mode_obj_get_properties *", fields)
        _call(fd, "DRM_IOCTL_MODE_OBJ_GETPROPERTIES", data)
        if data.count_props <= room:
            break
        room = data.count_props
    return {_property_name(fd, ids[n]): (ids[n], values[n]) for n in range(data.count_props)}


def _property_name(fd: int, number: int) -> str:
    data: Any = ffi.new("struct drm_mode_get_property *", {"prop_id": number})
    _call(fd, "DRM_IOCTL_MODE_GETPROPERTY", data)
    return text(ffi.buffer(data.name))


def get_blob(fd: int, blob: int) -> bytes:
    """Return what is in a blob."""
    data: Any = ffi.new("struct drm_mode_get_blob *", {"blob_id": blob})
    _call(fd, "DRM_IOCTL_MODE_GETPROPBLOB", data)
    contents = ffi.new("char[]", data.length)
    data.data = address(ffi, contents)
    _call(fd, "DRM_IOCTL_MODE_GETPROPBLOB", data)
    return bytes(ffi.buffer(contents, data.length))


def create_blob(fd: int, contents: bytes, made: list[int]) -> None:
    """Give the kernel a blob, and add its id to a list."""
    place = address(ffi, ffi.from_buffer(contents))
    data: Any = ffi.new("struct drm_mode_create_blob *", [place, len(contents)])
    _make(fd, "DRM_IOCTL_MODE_CREATEPROPBLOB", data, made, at=12)


def destroy_blob(fd: int, blob: int, done: list[int]) -> None:
    """Give a blob back, which what uses it keeps, and add something to a list as that is done."""
    data = ffi.new("struct drm_mode_destroy_blob *", [blob])
    _make(fd, "DRM_IOCTL_MODE_DESTROYPROPBLOB", data, done)


def formats_by_modifier(blob: bytes) -> Iterator[tuple[int, list[int]]]:
    """Yield each modifier of an IN_FORMATS blob, with the formats that it goes with."""
    header: Any = ffi.from_buffer("struct drm_format_modifier_blob *", blob)
    start = ffi.from_buffer(blob)
    formats: Any = ffi.cast("uint32_t *", start + header.formats_offset)
    modifiers: Any = ffi.cast("struct drm_format_modifier *", start + header.modifiers_offset)
    for n in range(header.count_modifiers):
        one = modifiers[n]
        bits = [bit for bit in range(64) if one.formats >> bit & 1]
        yield one.modifier, [formats[one.offset + bit] for bit in bits]


class FramebufferPlane(NamedTuple):
    """Where one plane of a framebuffer lies."""

    handle: int
    pitch: int
    offset: int


def add_framebuffer(
    fd: int,
    made: list[int],
    *,
    size: tuple[int, int],
    pixel_format: int,
    planes: Sequence[FramebufferPlane],
    modifier: int | None,
) -> None:
    """Make a framebuffer, which keeps its buffers, and add its id to a list.

    None says no modifier at all.
    """
    fields: dict[str, Any] = {
        "width": size[0],
        "height": size[1],
        "pixel_format": pixel_format,
        "handles": [plane.handle for plane in planes],
        "pitches": [plane.pitch for plane in planes],
        "offsets": [plane.offset for plane in planes],
    }
    if modifier is not None:
        fields |= {"flags": DRM_MODE_FB_MODIFIERS, "modifier": [modifier] * len(planes)}
    data: Any = ffi.new("struct drm_mode_fb_cmd2 *", fields)
    _make(fd, "DRM_IOCTL_MODE_ADDFB2", data, made, at=0)


def remove_framebuffer(fd: int, framebuffer: int, done: list[int]) -> None:
    """Give a framebuffer back, and add something to a list as that is done.

    One that is on a screen goes black.
    """
    _make(fd, "DRM_IOCTL_MODE_RMFB", ffi.new("uint32_t *", framebuffer), done)


class Crtc(NamedTuple):
    """What a CRTC shows: a framebuffer from a position on, with a mode; all 0 and b"" for off."""

    framebuffer: int
    x: int
    y: int
    timings: bytes


OFF = Crtc(0, 0, 0, b"")


def get_crtc(fd: int, crtc: int) -> Crtc:
    """Return what a CRTC shows."""
    data: Any = ffi.new("struct drm_mode_crtc *", {"crtc_id": crtc})
    _call(fd, "DRM_IOCTL_MODE_GETCRTC", data)
    if not (data.mode_valid and data.fb_id):
        return OFF
    return Crtc(data.fb_id, data.x, data.y, bytes(ffi.buffer(ffi.addressof(data, "mode"))))


def set_crtc(fd: int, crtc: int, connectors: Sequence[int], shown: Crtc, done: list[int]) -> None:
    """Have a CRTC show something on connectors, or, with none of them, nothing; waits for it.

    Adds something to a list as that is done.
    """
    ids = ffi.new("uint32_t[]", list(connectors))
    fields: dict[str, Any] = {
        "set_connectors_ptr": address(ffi, ids),
        "count_connectors": len(connectors),
        "crtc_id": crtc,
        "fb_id": shown.framebuffer,
        "x": shown.x,
        "y": shown.y,
    }
    if shown.timings:
        fields |= {"mode_valid": 1, "mode": mode_info(shown.timings)[0]}
    data = ffi.new("struct drm_mode_crtc *", fields)
    _make(fd, "DRM_IOCTL_MODE_SETCRTC", data, done)


def page_flip(fd: int, crtc: int, framebuffer: int, cookie: int, taken: list[int]) -> None:
    """Flip a CRTC to a framebuffer; an event with the cookie says when that is done.

    Adds something to a list as the kernel takes it.
    """
    fields = [crtc, framebuffer, DRM_MODE_PAGE_FLIP_EVENT, 0, cookie]
    data = ffi.new("struct drm_mode_crtc_page_flip *", fields)
    _make(fd, "DRM_IOCTL_MODE_PAGE_FLIP", data, taken)


class AtomicRequest:
    """Properties to commit, {object: {property: value}}; may be committed again with other values.

    Not by two at once, and not before `out_fence` is -1 again: the kernel writes into that.
    """

    __slots__ = ("_arrays", "_data", "out_fence", "values")

    def __init__(self, objects: dict[int, dict[int, int]], crtc: int, fence_property: int) -> None:
        """Commit `objects`, and have a CRTC give its fence, by the property of this id."""
        self.out_fence: Any = ffi.new("int32_t *", -1)
        """The out-fence's descriptor; -1 while the kernel has taken nothing."""
        objects[crtc][fence_property] = address(ffi, self.out_fence)
        every = [pair for properties in objects.values() for pair in properties.items()]
        self.values: Any = ffi.new("uint64_t[]", [value % 2**64 for _, value in every])
        """The values in the order of the objects and their properties."""
        self._arrays = (
            ffi.new("uint32_t[]", list(objects)),
            ffi.new("uint32_t[]", [len(properties) for properties in objects.values()]),
            ffi.new("uint32_t[]", [number for number, _ in every]),
            self.values,
        )
        places = [address(ffi, array) for array in self._arrays]
        self._data: Any = ffi.new("struct drm_mode_atomic *", [0, len(objects), *places])

    def commit(self, fd: int, flags: int, cookie: int, taken: list[int], fences: list[int]) -> None:
        """Commit all or none; once the kernel has them, one list has that, and one the fence."""
        self._data.flags, self._data.user_data = flags, cookie
        try:
            _make(fd, "DRM_IOCTL_MODE_ATOMIC", self._data, taken)
        finally:
            if self.out_fence[0] >= 0:  # it is -1 where the kernel takes nothing
                fences.append(self.out_fence[0])


class Event(NamedTuple):
    """That a flip is done: its cookie, the frame it began with and when, in monotonic seconds."""

    cookie: int
    sequence: int | None
    timestamp: float


def flip_events(data: bytes) -> Iterator[Event]:
    """Yield the flips in what was read from a device."""
    while data:
        kind, length = _HEADER.unpack_from(data)
        if kind == FLIP_COMPLETE:
            _, _, cookie, seconds, microseconds, sequence, _ = _EVENT.unpack_from(data)
            # A driver without vblanks sends 0: drm_crtc_send_vblank_event in drm_vblank.c.
            yield Event(cookie, sequence or None, seconds + microseconds / 1_000_000)
        data = data[length:]

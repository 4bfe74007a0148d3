"""Every ioctl of the package fails: at each allocation inside of it, and by what its driver knows.

A clear error, nothing is lost, and what was used can be used afterwards.
"""

import contextlib
import errno
import os
import re
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest
from helpers import cameras, screen, uses
from helpers.features import INJECTED
from helpers.injection import fail_each, issued, refused, require_left, there
from helpers.uses import SIZE
from test_udmabuf import setting

import dmabuf
from dmabuf import _ioctl
from dmabuf.devices import v4l2
from dmabuf.devices.drm import Syncobj, Vgem, inspect
from dmabuf.devices.drm import _ioctl as drm_ioctl
from dmabuf.devices.drm import _syncobj_ioctl as syncobj_ioctl
from dmabuf.devices.kms import _ioctl as kms_ioctl
from dmabuf.devices.v4l2 import _controls_ioctl, _events_ioctl
from dmabuf.devices.v4l2 import _ioctl as v4l2_ioctl
from dmabuf.sw_sync import Timeline

pytestmark = [
    pytest.mark.needs("injected failures", "own machine"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
PAGES = "/sys/kernel/debug/fail_page_alloc"
NAMED_OTHERWISE = "DMA_BUF_SET_NAME_B", "UDMABUF_CREATE", "UDMABUF_CREATE_LIST"
MODULES: tuple[ModuleType, ...] = (
    *(_ioctl, drm_ioctl, syncobj_ioctl, kms_ioctl),
    *(v4l2_ioctl, _controls_ioctl, _events_ioctl),
)


class Use(NamedTuple):
    """A use of the package that leaves nothing behind."""

    ioctls: Mapping[str, str]
    """Those that it is in the table for, and the errors that drivers have for them.

    One with a star is an answer, which the package knows: a list's end, what a device lacks, that
    it has gone as something is given back, that it is busy and will not be for long.
    """
    run: Callable[[Any], object]
    given: Callable[[], AbstractContextManager[Any]] = nullcontext
    """Gives what it is told."""


# What a device says of whatever it is asked.
_DRM = "EFAULT EINVAL ENODEV "
_MODES = _DRM + "EOPNOTSUPP "
_V4L2 = "EINVAL ENODEV ENOTTY "
_LIST = "EINVAL* ENODEV ENOTTY* "
USES = {
    "a heap's buffer": Use(
        {
            "DMA_HEAP_IOCTL_ALLOC": "EFAULT EINVAL EMFILE ENFILE ENOMEM ENOTTY",
            "DMA_BUF_SET_NAME_B": "EBUSY EFAULT EINVAL ENOMEM ENOTTY",
        },
        lambda heap: heap.allocate(SIZE, name="frame").close(),
        uses.a_heap,
    ),
    "a heap": Use({}, lambda _: dmabuf.Heap().close()),
    "a buffer of contiguous memory": Use(
        {}, lambda heap: heap.allocate(SIZE).close(), partial(dmabuf.Heap, "reserved")
    ),
    "an access": Use(
        {"DMA_BUF_IOCTL_SYNC": "EFAULT EINVAL EIO ENODEV ENOMEM ENOTTY ETIMEDOUT"},
        uses.access,
        uses.a_buffer_and_a_fence,
    ),
    "fences of a buffer": Use(
        {
            "DMA_BUF_IOCTL_EXPORT_SYNC_FILE": "EFAULT EINVAL EMFILE ENOMEM ENOTTY",
            "DMA_BUF_IOCTL_IMPORT_SYNC_FILE": "EFAULT EINVAL ENOMEM ENOTTY",
        },
        uses.exchange_fences,
        uses.a_buffer_and_a_fence,
    ),
    "udmabuf": Use(
        {"UDMABUF_CREATE": "EBADFD EFAULT EINVAL EMFILE ENOMEM ENOTTY"},
        lambda memfd: dmabuf.udmabuf.from_memfd(memfd).close(),
        uses.a_memfd,
    ),
    "udmabuf of memory of its own": Use({}, lambda _: dmabuf.udmabuf.allocate(SIZE).close()),
    "udmabuf of pieces": Use(
        {"UDMABUF_CREATE_LIST": "EBADFD EFAULT EINVAL EMFILE ENOMEM ENOTTY"},
        lambda memfd: dmabuf.udmabuf.from_memfds([(memfd, 0, 4096), (memfd, 8192, 4096)]).close(),
        uses.a_memfd,
    ),
    "a timeline": Use(
        {
            "SW_SYNC_IOC_CREATE_FENCE": "EFAULT EMFILE ENOMEM ENOTTY",
            "SW_SYNC_IOC_INC": "EFAULT ENOTTY",
        },
        uses.signal,
        Timeline,
    ),
    "a merge": Use(
        {"SYNC_IOC_MERGE": "EFAULT EINVAL EMFILE ENOENT ENOMEM ENOTTY"}, uses.merge, uses.two_fences
    ),
    "a merge of many": Use({}, uses.merge, uses.eight_fences),
    "a wait": Use({}, lambda fence: fence.wait(0), uses.a_merged_fence),
    "a fence's points": Use(
        {"SYNC_IOC_FILE_INFO": "EFAULT EINVAL ENOMEM ENOTTY"},
        lambda it: it.info(),
        uses.a_merged_fence,
    ),
    "a deadline": Use(
        {"SYNC_IOC_SET_DEADLINE": "EFAULT EINVAL ENOTTY"},
        lambda fence: fence.set_deadline(1),
        uses.a_merged_fence,
    ),
    "a DRM device": Use(
        {
            "DRM_IOCTL_VERSION": _DRM,
            "DRM_IOCTL_GET_CAP": _DRM + "EOPNOTSUPP",
        },
        inspect,
        lambda: nullcontext(screen.path()),
    ),
    "vgem": Use(
        {
            "DRM_IOCTL_PRIME_FD_TO_HANDLE": _DRM + "EBADF EIO ENOMEM ENOSYS EOPNOTSUPP",
            "DRM_IOCTL_GEM_CLOSE": "EFAULT EINVAL ENODEV* EOPNOTSUPP",
            "DRM_IOCTL_VGEM_FENCE_ATTACH": _DRM + "EBUSY ENOENT ENOMEM",
            "DRM_IOCTL_VGEM_FENCE_SIGNAL": _DRM + "ENOENT ETIMEDOUT",
        },
        uses.hold_by_a_fence,
        uses.a_path_and_a_buffer,
    ),
    "a dumb buffer": Use(
        {
            "DRM_IOCTL_MODE_CREATE_DUMB": _DRM + "EACCES ENOMEM ENOSPC ENOSYS EOPNOTSUPP",
            "DRM_IOCTL_PRIME_HANDLE_TO_FD": _DRM + "EACCES EMFILE ENOENT ENOMEM ENOSYS EOPNOTSUPP",
        },
        uses.make_dumb,
        Vgem,
    ),
    "a sync object": Use(
        {
            "DRM_IOCTL_SYNCOBJ_CREATE": _MODES + "ENOMEM",
            "DRM_IOCTL_SYNCOBJ_DESTROY": "EFAULT EINVAL ENODEV* EOPNOTSUPP",
        },
        lambda device: Syncobj(device).close(),
        uses.a_gpu,
    ),
    "a sync object in a descriptor": Use(
        {
            "DRM_IOCTL_SYNCOBJ_HANDLE_TO_FD": _MODES + "EMFILE ENOENT ENOMEM",
            "DRM_IOCTL_SYNCOBJ_FD_TO_HANDLE": _MODES + "ENOENT ENOMEM",
        },
        uses.export_and_import,
        uses.a_syncobj,
    ),
    "sync objects' fences": Use(
        {
            "DRM_IOCTL_SYNCOBJ_TRANSFER": _MODES + "ENOENT ENOMEM",
            "DRM_IOCTL_SYNCOBJ_RESET": _MODES + "ENOENT ENOMEM",
            "DRM_IOCTL_SYNCOBJ_SIGNAL": _MODES + "ENOENT ENOMEM",
            "DRM_IOCTL_SYNCOBJ_WAIT": _MODES + "ENOENT ENOMEM",
        },
        uses.pass_on,
        uses.syncobjs_and_a_fence,
    ),
    "timelines of sync objects": Use(
        {
            "DRM_IOCTL_SYNCOBJ_TIMELINE_SIGNAL": _MODES + "ENOENT ENOMEM",
            "DRM_IOCTL_SYNCOBJ_QUERY": _MODES + "ENOENT ENOMEM",
            "DRM_IOCTL_SYNCOBJ_TIMELINE_WAIT": _MODES + "ENOENT ENOMEM",
            "DRM_IOCTL_SYNCOBJ_EVENTFD": _MODES + "EBADF ENOENT ENOMEM",
        },
        uses.reach_points,
        uses.syncobjs_and_a_fence,
    ),
    "a display": Use(
        {
            "DRM_IOCTL_SET_CLIENT_CAP": _MODES,
            "DRM_IOCTL_AUTH_MAGIC": "EACCES* EFAULT* EINVAL* ENODEV*",
            "DRM_IOCTL_MODE_GETRESOURCES": "EACCES* EFAULT EINVAL* ENODEV EOPNOTSUPP*",
            "DRM_IOCTL_MODE_GETCONNECTOR": _MODES + "ENOENT ENOMEM",
            "DRM_IOCTL_MODE_GETENCODER": _MODES + "ENOENT",
            "DRM_IOCTL_MODE_GETCRTC": _MODES + "ENOENT",
            "DRM_IOCTL_MODE_GETPLANERESOURCES": _MODES,
            "DRM_IOCTL_MODE_GETPLANE": _MODES + "ENOENT",
            "DRM_IOCTL_MODE_OBJ_GETPROPERTIES": _MODES + "ENOENT",
            "DRM_IOCTL_MODE_GETPROPERTY": _MODES + "ENOENT",
            "DRM_IOCTL_MODE_GETPROPBLOB": _MODES + "ENOENT",
        },
        uses.open_a_display,
        lambda: nullcontext(screen.path()),
    ),
    "a picture": Use(
        {
            "DRM_IOCTL_MODE_ADDFB2": _MODES + "EACCES ENOENT ENOMEM ERANGE",
            "DRM_IOCTL_MODE_ATOMIC": _MODES + "EACCES EBUSY EDEADLK EIO ENOENT ENOMEM ENOSPC",
            "DRM_IOCTL_MODE_RMFB": "EFAULT EINVAL ENODEV* ENOENT EOPNOTSUPP",
        },
        uses.show,
        uses.a_display,
    ),
    "a mode": Use(
        {
            "DRM_IOCTL_MODE_CREATEPROPBLOB": _MODES + "ENOMEM",
            "DRM_IOCTL_MODE_DESTROYPROPBLOB": "EFAULT EINVAL ENODEV* ENOENT EOPNOTSUPP EPERM",
        },
        uses.set_a_mode,
        uses.a_display,
    ),
    "a picture without atomic commits": Use(
        {"DRM_IOCTL_MODE_PAGE_FLIP": _MODES + "EACCES EBUSY ENOENT ENOMEM ENOSPC"},
        uses.show,
        partial(uses.a_display, atomic=False),
    ),
    "a mode without atomic commits": Use(
        {"DRM_IOCTL_MODE_SETCRTC": _MODES + "EACCES EBUSY ENOENT ENOMEM ENOSPC ERANGE"},
        uses.set_a_mode,
        partial(uses.a_display, atomic=False),
    ),
    "a camera": Use(
        {
            "VIDIOC_QUERYCAP": _V4L2,
            "VIDIOC_REQBUFS": _LIST + "EBUSY* ENOMEM",
        },
        v4l2.inspect,
        lambda: nullcontext(cameras.find("vivid")),
    ),
    "a camera that another has": Use(
        {"VIDIOC_CREATE_BUFS": "EBUSY* EINVAL* ENODEV* ENOMEM* ENOTTY*"},
        v4l2.inspect,
        uses.a_taken_camera,
    ),
    "a format": Use(
        {
            "VIDIOC_ENUM_FMT": _LIST,
            "VIDIOC_ENUM_FRAMESIZES": _LIST,
            "VIDIOC_ENUM_FRAMEINTERVALS": _LIST,
            "VIDIOC_G_FMT": _V4L2,
            "VIDIOC_S_FMT": _V4L2 + "EBUSY EIO",
            "VIDIOC_G_PARM": _V4L2 + "EIO",
            "VIDIOC_S_PARM": _V4L2 + "EBUSY EIO",
        },
        uses.negotiate,
        cameras.camera,
    ),
    "a stream": Use(
        {
            "VIDIOC_EXPBUF": _V4L2 + "EMFILE ENOMEM",
            "VIDIOC_QBUF": _V4L2 + "EFAULT EIO ENOMEM",
            "VIDIOC_STREAMON": _V4L2 + "EBUSY EIO ENOLINK ENOMEM ENOSPC EPIPE",
            "VIDIOC_DQBUF": _V4L2 + "EIO EPIPE",
            "VIDIOC_STREAMOFF": "EINVAL ENODEV* ENOTTY",
        },
        uses.stream,
        uses.a_cameras_path,
    ),
    "an input": Use(
        {
            "VIDIOC_ENUMINPUT": _LIST,
            "VIDIOC_S_INPUT": _V4L2 + "EBUSY",
            "VIDIOC_ENUM_DV_TIMINGS": _LIST + "ENODATA*",
            "VIDIOC_QUERY_DV_TIMINGS": _V4L2 + "ENODATA ENOLCK ENOLINK ERANGE",
            "VIDIOC_S_DV_TIMINGS": _V4L2 + "EBUSY ENODATA ERANGE",
        },
        uses.choose_an_input,
        uses.an_hdmi_input,
    ),
    "an output": Use(
        {
            "VIDIOC_ENUMOUTPUT": _LIST,
            "VIDIOC_S_OUTPUT": _V4L2 + "EBUSY",
        },
        uses.choose_an_output,
        uses.an_output,
    ),
    "controls": Use(
        {
            "VIDIOC_QUERY_EXT_CTRL": _LIST + "EIO ENOMEM",
            "VIDIOC_QUERYMENU": _LIST,
            "VIDIOC_G_EXT_CTRLS": _V4L2 + "EACCES EIO ENOMEM ENOSPC",
            "VIDIOC_TRY_EXT_CTRLS": _V4L2 + "EACCES EILSEQ EIO ENOMEM ERANGE",
            "VIDIOC_S_EXT_CTRLS": _V4L2 + "EACCES EBUSY EILSEQ EIO ENOMEM ERANGE",
        },
        uses.control,
        cameras.camera,
    ),
    "controls of old drivers": Use(
        {"VIDIOC_QUERYCTRL": _LIST + "EIO"},
        lambda camera: camera.device.controls(),
        uses.a_camera_that_knows_one_query,
    ),
    "a part of the picture": Use(
        {
            "VIDIOC_G_SELECTION": _V4L2 + "ENODATA",
            "VIDIOC_S_SELECTION": _V4L2 + "EACCES EBUSY ENODATA ERANGE",
        },
        uses.crop,
        uses.an_hdmi_input,
    ),
    "events": Use(
        {
            "VIDIOC_SUBSCRIBE_EVENT": _V4L2 + "ENOMEM",
            "VIDIOC_DQEVENT": _V4L2,
            "VIDIOC_UNSUBSCRIBE_EVENT": "EINVAL* ENODEV* ENOTTY*",
        },
        uses.await_a_change,
        cameras.camera,
    ),
    "an encoder": Use({"VIDIOC_ENCODER_CMD": _V4L2 + "EBUSY* EPERM"}, uses.encode, uses.an_encoder),
    "a decoder": Use({"VIDIOC_DECODER_CMD": _V4L2 + "EBUSY* EPERM"}, uses.decode, uses.a_decoder),
}


@pytest.fixture
def every_kind():
    """Have all allocations fail that may, in silence (lib/fault-inject.c)."""
    with contextlib.ExitStack() as settings:
        for path, value in (
            (f"{INJECTED}/ignore-gfp-wait", "N"),
            (f"{INJECTED}/verbose", "0"),
            (f"{PAGES}/ignore-gfp-wait", "N"),
            (f"{PAGES}/ignore-gfp-highmem", "N"),
            (f"{PAGES}/min-order", "0"),
            (f"{PAGES}/verbose", "0"),
        ):
            settings.enter_context(setting(Path(path), value))
        yield


def issued_ioctls():
    """Return the names of all ioctls of the package, and their numbers."""
    return {
        name: number
        for module in MODULES
        for name, number in vars(module).items()
        if name in NAMED_OTHERWISE or re.match(r"\w+_IOC(TL)?_|VIDIOC_", name)
    }


IOCTLS = issued_ioctls()


def test_the_table_leaves_no_ioctl_out():
    assert Counter(ioctl for use in USES.values() for ioctl in use.ioctls) == Counter(IOCTLS.keys())
    assert set(_ioctl.STRUCTS) <= set(IOCTLS.values())


def is_clear(error):
    """Whether an error says more than the kernel's number."""
    return error.strerror not in {"", os.strerror(error.errno)}


@pytest.mark.usefixtures("every_kind")
@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_an_allocation_that_fails_loses_nothing(use):
    with use.given() as given:
        use.run(given)  # which imports what it needs
        assert use.ioctls.keys() <= issued(lambda: use.run(given))
        for error in fail_each(lambda: use.run(given)):
            assert isinstance(error, MemoryError) or is_clear(error)


@pytest.mark.parametrize(
    ("use", "ioctl"),
    [pytest.param(use, ioctl, id=ioctl) for use in USES.values() for ioctl in use.ioctls],
)
def test_an_error_of_the_driver_loses_nothing(use, ioctl):
    before = there()
    with use.given() as given:
        use.run(given)
        for name in use.ioctls[ioctl].split():
            number = getattr(errno, name.rstrip("*"))
            error = refused(IOCTLS[ioctl], number, lambda: use.run(given))
            if not name.endswith("*"):
                assert isinstance(error, OSError), (name, error)
                assert error.errno == number, name
                assert is_clear(error), name
            use.run(given)
    require_left(before)  # what could not be given back has gone with its device

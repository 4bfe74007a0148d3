"""Displays: what they have, what they show, and what they refuse."""

import contextlib
import errno
import os
import re
from pathlib import Path

import pytest
from helpers import drm, screen
from helpers.features import RELEASE
from helpers.fences import is_open
from helpers.process import NOBODY, in_child

import dmabuf
from dmabuf.devices import kms
from dmabuf.devices.drm import Vgem
from dmabuf.devices.kms import _ioctl
from dmabuf.devices.kms._framebuffer import Framebuffer

pytestmark = [pytest.mark.needs("display", "root", "vgem"), pytest.mark.timeout(60)]
CLOSED = "operation on a closed Display"


@pytest.fixture
def image(allocate):
    with screen.image(allocate) as image:
        yield image


class TestWhatItHas:
    def test_the_first_that_imports_buffers_is_opened(self, buffer):
        with kms.Display() as display:
            display.import_buffer(buffer).close()
            assert display.connector.status is kms.ConnectorStatus.CONNECTED

    def test_says_what_it_is(self, display):
        assert re.fullmatch(r"/dev/dri/card\d+", display.path)
        for part in (display.path, display.driver, "Display", display.connector.name, "fd="):
            assert part in repr(display)
        assert display.mode is None
        assert not os.get_inheritable(display.fileno())

    def test_connectors_and_modes_are_those_of_sysfs(self, display):
        card = os.path.basename(display.path)
        for connector in display.connectors():
            folder = Path("/sys/class/drm", f"{card}-{connector.name}")
            assert (folder / "status").read_text().strip().upper() == connector.status.name
            names = [mode.name for mode in connector.modes]
            assert (folder / "modes").read_text().split() == names
        assert display.connector in display.connectors()

    def test_modes_have_a_size_and_a_rate(self, display):
        modes = display.connector.modes
        for mode in modes:
            assert mode.name.startswith(f"{mode.width}x{mode.height}")
            assert mode.size == (mode.width, mode.height)
            assert 20 < mode.refresh < 250
            assert str(mode).startswith(f"{mode.width}x{mode.height}@")
        assert any(mode.preferred for mode in modes)

    def test_planes_list_formats_and_modifiers(self, display):
        assert display.plane in display.planes()
        assert display.plane.kind is kms.PlaneKind.PRIMARY
        assert display.plane.formats["XRGB8888"] == (dmabuf.image.LINEAR,)
        for plane in display.planes():
            unknown = set(plane.formats) - set(dmabuf.image.FORMATS)
            assert all(re.fullmatch(r"[\w ]{4}|0x[0-9a-f]{8}", name) for name in unknown)
            assert "XR24" not in unknown

    def test_a_connector_is_opened_by_its_name(self, display):
        path, name = display.path, display.connector.name
        display.close()
        with kms.Display(path, connector=name) as same:
            assert same.connector.name == name
        with pytest.raises(ValueError, match=f"has no connector 'HDMI-Z-9'; it has.*{name}"):
            kms.Display(path, connector="HDMI-Z-9")


@pytest.fixture(
    params=[
        pytest.param("dumped", marks=pytest.mark.needs("screendump")),
        pytest.param("captured", marks=pytest.mark.needs("vkms", "heap")),
    ]
)
def seen(request, allocate):
    """Give a display, and what returns its picture: of our machine, or as it is written back."""

    def capture():
        with screen.image(allocate, size=display.mode.size) as target:
            return screen.captured(display, target)

    dumped = request.param == "dumped"
    with kms.Display(screen.path() if dumped else drm.find("vkms")) as display:
        yield display, screen.pixels if dumped else capture


class TestTheScreenShows:
    @pytest.mark.needs("screendump")
    @pytest.mark.parametrize("atomic", [True, False])
    @pytest.mark.parametrize("format", ["XRGB8888", "RGB565"])
    def test_the_image(self, image, atomic, format):
        image = dmabuf.Image(image.buffers, format, *screen.SIZE)
        painted = screen.paint(image, 200)
        with kms.Display(screen.path(), atomic=atomic) as display:
            assert display.atomic is atomic
            if format == "RGB565" and "RGB565" not in display.plane.formats:
                with pytest.raises(dmabuf.RefusedError, match="can't show RGB565"):
                    display.show(image)
                return
            assert display.show(image).wait(10)
            assert display.mode.size == screen.SIZE
            mask = (0xF8, 0xFC, 0xF8) if format == "RGB565" else (0xFF, 0xFF, 0xFF)
            assert (screen.pixels() & mask == painted & mask).all()

    def test_one_image_after_the_other_and_what_is_written_into_one_again(self, seen, allocate):
        display, look = seen
        with screen.image(allocate) as one, screen.image(allocate) as two:
            pictures = [screen.paint(one, 1), screen.paint(two, 2)]
            for image, picture in zip((one, two, one), (*pictures, pictures[0]), strict=True):
                assert display.show(image).wait(10)
                assert (look() == picture).all()
            again = screen.paint(one, 3)
            assert display.show(one).wait(10)
            assert (look() == again).all()

    def test_a_part_of_a_larger_image(self, seen, allocate):
        """Strides and offsets crop, without a copy."""
        display, look = seen
        width, height = (side + 64 for side in screen.SIZE)
        # Linux 6.12's vkms counts an offset twice, and reads beyond the buffer, in the kernel.
        left, top = (0, 0) if display.driver == "vkms" else (16, 48)
        with screen.image(allocate, size=(width, height)) as whole:
            picture = screen.picture(7)
            with whole.write() as (plane,):
                plane[:] = 0xFF
                inside = plane[top : top + screen.SIZE[1], left : left + screen.SIZE[0]]
                inside[..., :3] = picture[..., ::-1]
            stride = whole.planes[0].stride
            part = dmabuf.Image(
                whole.buffers,
                "XRGB8888",
                *screen.SIZE,
                strides=[stride],
                offsets=[top * stride + left * 4],
            )
            assert display.show(part).wait(10)
            if RELEASE < (6, 0) and display.driver == "cirrus":
                assert (look()[:top] == 0xFF).all()  # that driver didn't look at offsets
            else:
                assert (look() == picture).all()

    @pytest.mark.needs("udmabuf")
    def test_memory_of_a_memfd(self, seen):
        display, look = seen
        with screen.image(dmabuf.udmabuf.allocate) as image:
            painted = screen.paint(image, 90)
            assert display.show(image).wait(10)
            assert (look() == painted).all()

    def test_its_own_dumb_buffer(self, seen):
        display, look = seen
        with display.create_dumb(*screen.SIZE, 32) as dumb, dumb.export() as buffer:
            image = dmabuf.Image(buffer, "XRGB8888", *screen.SIZE, strides=dumb.pitch)
            painted = screen.paint(image, 91)
            assert display.show(image).wait(10)
            assert (look() == painted).all()

    def test_the_size_of_the_image_whatever_was_before(self, seen, allocate):
        display, look = seen
        sizes = [mode.size for mode in display.connector.modes]
        other = next(size for size in ((800, 600), (1024, 768)) if size in sizes)
        with screen.image(allocate) as small, screen.image(allocate, size=other) as large:
            for image in (small, large, small):
                assert display.show(image).wait(10)
                assert display.mode.size == (image.width, image.height)
                assert look().shape == (image.height, image.width, 3)

    @pytest.mark.needs("screendump")
    @pytest.mark.parametrize("atomic", [True, False])
    def test_what_it_showed_before_once_the_display_is_closed(self, image, atomic):
        before = screen.pixels()
        painted = screen.paint(image, 40)
        with kms.Display(screen.path(), atomic=atomic) as display:
            was_on = crtc(display).timings
            display.show(image).wait(10)
            assert (screen.pixels() == painted).all()
        if was_on:
            after = screen.pixels()
            assert after.shape == before.shape
            assert (after != before).mean() < 0.01  # a console may write, or blink


class TestModes:
    def test_a_mode_is_set_that_was_asked_for(self, display, allocate):
        sizes = [mode.size for mode in display.connector.modes]
        size = max(sizes, key=lambda size: (sizes.count(size), -size[0]))
        modes = [mode for mode in display.connector.modes if mode.size == size]
        with screen.image(allocate, size=size) as image:
            for mode in modes:
                assert display.show(image, mode=mode).wait(10)
                assert display.mode == mode
            assert display.show(image).wait(10)  # stays
            assert display.mode == modes[-1]

    def test_what_the_display_restores_is_what_was_there(self, image):
        with kms.Display() as display:
            before = crtc(display)
            display.show(image).wait(10)
            assert crtc(display) != before
            path = display.path
        with kms.Display(path) as display:
            assert crtc(display) == before


def crtc(display):
    return _ioctl.get_crtc(display.fileno(), display._pipeline.crtc)


class TestMisuse:
    def test_what_is_no_display_is_refused(self):
        nodes = [drm.find("vgem"), *Path("/dev/dri").glob("renderD*")]
        assert len(nodes) >= 2
        for path in nodes:
            with pytest.raises(OSError, match=f"{path}.* is not a display") as caught:
                kms.Display(path)
            assert caught.value.errno == errno.ENODEV
        with pytest.raises(OSError, match="not a DRM device") as caught:
            kms.Display("/dev/null")
        assert caught.value.errno == errno.ENOTTY

    @pytest.mark.parametrize(
        "use",
        [
            lambda display, image: display.show(image),
            lambda display, image: display.connectors(),
            lambda display, image: display.planes(),
            lambda display, image: display.fileno(),
            lambda display, image: display.import_buffer(image.buffers[0]),
            lambda display, image: display.__enter__(),
        ],
    )
    def test_a_closed_display_can_not_be_used(self, display, image, use):
        display.close()
        display.close()
        with pytest.raises(ValueError, match=CLOSED):
            use(display, image)
        assert "[closed]" in repr(display)

    def test_only_images_fences_and_modes_are_taken(self, display, image):
        buffer = image.buffers[0]
        for wrong in (None, buffer, buffer.fileno(), "image"):
            with pytest.raises(TypeError, match=f"Image, not {type(wrong).__name__}"):
                display.show(wrong)
        for wrong in (0, -1, buffer, buffer.fileno(), "fence"):
            with pytest.raises(TypeError, match=f"Fence, not {type(wrong).__name__}"):
                display.show(image, wrong)
        for wrong in ("640x480", screen.SIZE, 60):
            with pytest.raises(TypeError, match=f"mode must be.*not {type(wrong).__name__}"):
                display.show(image, mode=wrong)
        assert display.mode is None

    def test_a_format_that_the_plane_lacks_is_named_with_those_that_it_has(self, display, image):
        name = f"{display.path} {display.connector.name}"
        for format in ("NV12", "R8", "SRGGB8"):
            wrong = dmabuf.Image(image.buffers, format, *screen.SIZE)
            with pytest.raises(
                dmabuf.RefusedError,
                match=rf"{name}: .* plane \d+ can't show {format} \(.*only .*XRGB8888.*to_rgb",
            ) as caught:
                display.show(wrong)
            assert caught.value.errno == errno.EINVAL

    def test_a_modifier_that_the_plane_lacks_is_named(self, display, image):
        tiled = dmabuf.Image(image.buffers, "XRGB8888", *screen.SIZE, modifier=1 << 56 | 1)
        with pytest.raises(
            dmabuf.RefusedError, match="modifier 0x100000000000001, only with"
        ) as caught:
            display.show(tiled)
        assert caught.value.errno == errno.EINVAL

    @pytest.mark.parametrize("size", [(1, 1), (639, 480), (642, 480), (640, 482)])
    def test_a_size_that_no_mode_has_is_named_with_those_there_are(self, display, allocate, size):
        with screen.image(allocate, size=size) as image:
            match = f"no mode for an image of {size[0]}x{size[1]} pixels, only for.*640x480"
            with pytest.raises(dmabuf.RefusedError, match=match) as caught:
                display.show(image)
            assert caught.value.errno == errno.EINVAL
            mode = display.connector.modes[0]
            with pytest.raises(dmabuf.RefusedError, match=f"not have the size of mode {mode}"):
                display.show(image, mode=mode)

    def test_a_mode_that_the_driver_refuses_leaves_the_one_before(self, display, image):
        assert display.show(image).wait(10)
        mode = display.mode
        wrong = bytearray(mode.timings)
        wrong[4:14] = bytes(10)  # no pixels in a line
        with pytest.raises(OSError, match=r"can't show <dmabuf\.Image") as caught:
            display.show(image, mode=mode._replace(timings=bytes(wrong)))
        assert caught.value.errno == errno.EINVAL
        assert display.path in str(caught.value)
        assert display.mode == mode
        assert display.show(image).wait(10)

    def test_a_layout_that_the_driver_refuses_says_so(self, display, image, monkeypatch):
        """Image has looked at what it can; here it is the kernel that looks at the size."""
        plane = image.planes[0]._replace(offset=4096)
        monkeypatch.setattr(dmabuf.Image, "planes", (plane,))
        with pytest.raises(OSError, match=r"refuses a framebuffer of.*offset 4096") as caught:
            display.show(image)
        assert caught.value.errno == errno.EINVAL

    def test_an_image_on_a_closed_buffer_is_refused_also_when_it_was_shown(
        self, display, allocate, image
    ):
        with screen.image(allocate) as gone:
            pass
        with pytest.raises(ValueError, match="operation on a closed Buffer"):
            display.show(gone)
        assert display.show(image).wait(10)
        image.buffers[0].close()
        with pytest.raises(ValueError, match="operation on a closed Buffer"):
            display.show(image)

    def test_a_closed_fence_is_refused(self, display, image, pending):
        fence = pending.fence.dup()
        fence.close()
        with pytest.raises(ValueError, match="operation on a closed Fence"):
            display.show(image, fence)
        assert display.show(image).wait(10)

    @pytest.mark.needs("own machine")
    def test_a_driver_that_imports_nothing_says_so(self, image):
        path = drm.find("virtio_gpu")
        with kms.Display(path) as display:
            with pytest.raises(OSError, match=f"{path}.*can't import"):
                display.show(image)
            assert display.mode is None


class TestMaster:
    def test_a_second_display_of_a_device_is_refused(self, display):
        refused = pytest.raises(OSError, match=f"{display.path}.*another program is master")
        with refused as caught:
            kms.Display(display.path)
        assert caught.value.errno == errno.EBUSY
        with refused:
            in_child(lambda: kms.Display(display.path))

    def test_it_is_free_again_once_the_first_is_closed(self, display, image):
        path = display.path
        display.close()
        with kms.Display(path) as another:
            assert another.show(image).wait(10)

    def test_what_another_has_become_master_of_is_refused(self, display, image):
        """As a desktop does on another virtual terminal."""
        assert display.show(image).wait(10)
        drop_master(display)
        with kms.Display(display.path) as another:
            with pytest.raises(PermissionError, match="another program has become") as caught:
                display.show(image)
            assert caught.value.errno == errno.EACCES
            assert another.show(image).wait(10)
            display.close()  # and leaves the other's picture
            assert crtc(another).framebuffer
            assert another.show(image).wait(10)

    def test_without_rights_it_says_what_to_do(self, display):
        path = display.path
        display.close()
        with pytest.raises(PermissionError, match="run as root, or put"):
            in_child(lambda: kms.Display(path), user=NOBODY)

    def test_a_child_leaves_its_parents_picture(self, display, image):
        assert display.show(image).wait(10)
        shown = crtc(display)
        in_child(display.close)
        assert crtc(display) == shown
        assert display.show(image).wait(10)


def drop_master(display):
    import fcntl

    fcntl.ioctl(display.fileno(), 0x641F)  # DRM_IOCTL_DROP_MASTER in include/uapi/drm/drm.h


class TestLeaks:
    def test_an_image_has_one_framebuffer_however_often_it_is_shown(self, display, allocate):
        before = drm.framebuffers(display)
        with screen.image(allocate) as one, screen.image(allocate) as two:
            for image in (one, two) * 3:
                assert display.show(image).wait(10)
            with one.buffers[0].dup() as same:
                assert display.show(dmabuf.Image(same, "XRGB8888", *screen.SIZE)).wait(10)
            assert drm.framebuffers(display) == before + 2
            assert drm.claimed(display) == []

    def test_framebuffers_go_with_their_buffers(self, display, allocate, image):
        before = drm.framebuffers(display)
        assert display.show(image).wait(10)
        for collected in (False, True):
            buffer = allocate(1 << 21)
            assert display.show(dmabuf.Image(buffer, "XRGB8888", *screen.SIZE)).wait(10)
            if collected:
                with pytest.warns(ResourceWarning):
                    del buffer
            else:
                buffer.close()
            assert display.show(image).wait(10)
            assert drm.framebuffers(display) == before + 2  # it was on the screen till now
            assert display.show(image).wait(10)
            assert drm.framebuffers(display) == before + 1

    def test_a_show_looks_at_no_framebuffer_but_those_that_lost_a_buffer(
        self, display, allocate, image, monkeypatch
    ):
        looked = []
        can_be_shown = Framebuffer.can_be_shown

        def look(framebuffer):
            looked.append(framebuffer.number)
            return can_be_shown(framebuffer)

        before = drm.framebuffers(display)
        with contextlib.ExitStack() as stack:
            images = [stack.enter_context(screen.image(allocate)) for _ in range(8)]
            for one in (*images, image):
                assert display.show(one).wait(10)
            monkeypatch.setattr(Framebuffer, "can_be_shown", look)
            assert display.show(images[3]).wait(10)
            assert len(looked) == 1
            images[0].buffers[0].close()
            assert display.show(images[3]).wait(10)
            assert len(set(looked)) == 2
            assert drm.framebuffers(display) == before + 8
            for one in images:
                one.buffers[0].close()
            for _ in range(2):
                assert display.show(image).wait(10)
            assert drm.framebuffers(display) == before + 1
            looked.clear()
            assert display.show(image).wait(10)
            assert len(looked) == 1

    def test_a_closed_display_leaves_nothing_at_its_buffers(self, display, image):
        assert display.show(image).wait(10)
        assert image.buffers[0]._watchers
        display.close()
        assert not image.buffers[0]._watchers

    def test_a_driver_that_refuses_to_hear_of_linear_gets_no_modifier(
        self, display, image, monkeypatch
    ):
        """The kernel refuses modifiers by name where the plane's format has none."""
        add, asked = _ioctl.add_framebuffer, []

        def refuse(fd, made, *, modifier, **fields):
            asked.append(modifier)
            if modifier is not None:
                raise OSError(errno.EINVAL, "this driver has no modifiers")
            add(fd, made, modifier=modifier, **fields)

        monkeypatch.setattr(_ioctl, "add_framebuffer", refuse)
        assert display.show(image).wait(10)
        assert asked == [dmabuf.image.LINEAR, None]

    def test_refused_images_leave_nothing(self, display, image, allocate):
        before = drm.framebuffers(display)
        mode = display.connector.modes[0]
        wrong = mode._replace(timings=bytes(len(mode.timings)), width=640, height=480)
        for _ in range(3):
            with pytest.raises(OSError, match="can't show"):
                display.show(image, mode=wrong)
        assert (drm.framebuffers(display), drm.claimed(display)) == (before + 1, [])

    def test_a_display_that_can_not_be_opened_leaves_nothing(self):
        for path in (drm.find("vgem"), "/dev/null", "/dev/dri/card99"):
            for _ in range(3):
                with contextlib.suppress(OSError):
                    kms.Display(path)

    def test_a_collected_display_warns_and_closes(self, image):
        display = kms.Display(screen.path())
        assert display.show(image).wait(10)
        number = display.fileno()
        with pytest.warns(ResourceWarning, match=f"unclosed Display with descriptor {number}"):
            del display
        assert not is_open(number)

    def test_a_process_that_ends_leaves_the_screen_to_others(self, image):
        def show():
            display = kms.Display()
            display.show(image).wait(10)
            return display.path

        path = in_child(show)
        with kms.Display(path) as display:
            assert display.show(image).wait(10)


@pytest.mark.needs("own machine")
class TestUnplugged:
    @pytest.fixture
    def unplugged(self, display):
        """Give a function that takes the display's device away; it is back at the end."""
        device = Path("/sys/class/drm", os.path.basename(display.path), "device").resolve()
        driver = (device / "driver").resolve()
        yield lambda: (driver / "unbind").write_text(device.name)
        display.close()
        if not (device / "driver").exists():
            (driver / "bind").write_text(device.name)

    @pytest.mark.parametrize("pending", [False, True])
    def test_everything_says_that_it_is_gone_and_nothing_is_left(
        self, display, allocate, unplugged, pending
    ):
        with screen.image(allocate) as one, screen.image(allocate) as two, Vgem() as vgem:
            assert display.show(one).wait(10)
            if pending:
                with vgem.import_buffer(two.buffers[0]) as gem:
                    fence = vgem.attach_fence(gem, dmabuf.Access.WRITE)
                flip = display.show(two)
                fence.signal()
            unplugged()
            if pending:
                assert flip.wait(10)
            for use in (
                lambda: display.show(one),
                lambda: display.show(two),
                display.connectors,
                display.planes,
                lambda: display.import_buffer(two.buffers[0]),
                lambda: kms.Display(display.path),
            ):
                with pytest.raises(OSError, match="No such") as caught:
                    use()
                assert caught.value.errno in (errno.ENODEV, errno.ENOENT)
            display.close()

"""libcamera's frames as images, and ours as its buffers: the same memory, whoever ends first."""

import os
import select
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import dmabuf
from dmabuf.image import Image
from dmabuf.interop import libcamera

needs_it = pytest.mark.needs("libcamera", "heap")
SIZE = 320, 240
LONG = 30  # seconds
EXAMPLE = Path(__file__).parent.parent / "examples" / "libcamera_frame.py"
CONFIGURATION = Path("/usr/share/libcamera/pipeline/virtual/virtual.yaml")
CAMERA = f"""\
"Virtual":
  supported_formats:
  - width: {SIZE[0]}
    height: {SIZE[1]}
    frame_rates:
    - 30
    - 30
  test_pattern: "bars"
  location: "CameraLocationFront"
  model: "Virtual"
"""


class Camera:
    """libcamera's virtual camera, configured."""

    def __init__(self) -> None:
        import libcamera as library

        self.library = library
        self.manager = library.CameraManager.singleton()
        self.camera = next(one for one in self.manager.cameras if "Virtual" in one.id)
        self.camera.acquire()
        self.configuration = self.camera.generate_configuration([library.StreamRole.Viewfinder])
        self.camera.configure(self.configuration)
        self.stream_configuration = self.configuration.at(0)
        self.stream = self.stream_configuration.stream

    def capture(self, frame_buffer) -> None:
        """Have it fill a frame buffer."""
        request = self.camera.create_request()
        request.add_buffer(self.stream, frame_buffer)
        self.camera.start()
        self.camera.queue_request(request)
        assert select.select([self.manager.event_fd], [], [], LONG)[0]
        assert self.manager.get_ready_requests() == [request]
        self.camera.stop()


@pytest.fixture(scope="module")
def configured_camera():
    """Have libcamera find its virtual camera, as it begins."""
    CONFIGURATION.parent.mkdir(parents=True, exist_ok=True)
    CONFIGURATION.write_text(CAMERA)


@pytest.fixture(scope="module")
def camera(configured_camera):
    """Give libcamera's virtual camera."""
    made = Camera()
    yield made
    made.camera.release()


def picture(image):
    with image.read() as planes:
        return [plane.tobytes() for plane in planes]


@needs_it
class TestItsFrames:
    def test_are_images_on_the_same_memory_which_outlive_them(self, camera):
        allocator = camera.library.FrameBufferAllocator(camera.camera)
        allocator.allocate(camera.stream)
        frame_buffer = allocator.buffers(camera.stream)[0]
        number = frame_buffer.planes[0].fd
        camera.capture(frame_buffer)
        image = libcamera.image(frame_buffer, camera.stream_configuration)
        assert (image.format.name, image.width, image.height) == ("NV12", *SIZE)
        assert image.owns_buffers
        assert {buffer.inode for buffer in image.buffers} == {os.fstat(number).st_ino}
        before = picture(image)
        assert len(set(before[0])) > 2
        del frame_buffer, allocator
        assert picture(image) == before
        image.close()

    def test_fill_buffers_of_ours_which_may_be_closed_meanwhile(self, camera):
        image = Image.allocate("NV12", *SIZE)
        duplicates = [buffer.dup() for buffer in image.buffers]
        (frame_buffer,) = libcamera.frame_buffers([image])
        assert picture(image)[0] == bytes(SIZE[0] * SIZE[1])
        image.close()
        camera.capture(frame_buffer)
        with Image(duplicates[0], "NV12", *SIZE) as again:
            assert len(set(picture(again)[0])) > 2
        duplicates[0].close()


@needs_it
@pytest.mark.usefixtures("configured_camera")
def test_the_example_saves_a_frame(tmp_path):
    """In a process of its own: this one's camera may be in use."""
    from PIL import Image as pillow

    path = tmp_path / "frame.png"
    words = sys.executable, str(EXAMPLE), str(path)
    answer = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert answer.returncode == 0, answer.stderr
    assert "NV12" in answer.stdout
    with pillow.open(path) as picture:
        assert picture.width > 100
        assert len(picture.getcolors(1 << 24)) > 2


def configured(name, stride, width=64, height=48):
    """Return what a stream's configuration tells."""
    return SimpleNamespace(
        pixel_format=name,
        size=SimpleNamespace(width=width, height=height),
        stride=stride,
        color_space=None,
    )


def planes(*about):
    """Return a frame buffer with planes of (fd, offset, length) each."""
    made = [
        SimpleNamespace(fd=number, offset=offset, length=length) for number, offset, length in about
    ]
    return SimpleNamespace(planes=made)


@pytest.mark.needs("exporter")
class TestWhatItTells:
    def test_planes_in_one_buffer_have_it_once(self, buffer):
        number = buffer.fileno()
        about = planes((number, 0, 64 * 48), (number, 64 * 48, 64 * 24), (number, 0, 0))
        with libcamera.image(about, configured("NV12", 64)) as image:
            assert len(image.buffers) == 1
            assert [plane.offset for plane in image.planes] == [0, 64 * 48]
        assert not buffer.closed

    def test_one_plane_may_hold_them_all(self, buffer):
        with libcamera.image(planes((buffer.fileno(), 0, 4608)), configured("YUV420", 64)) as image:
            assert [plane.offset for plane in image.planes] == [0, 3072, 3840]

    def test_planes_in_buffers_of_their_own_have_these(self, buffer, other):
        about = planes((buffer.fileno(), 0, 3072), (other.fileno(), 0, 1536))
        with libcamera.image(about, configured("NV12", 64)) as image:
            assert list(image.buffers) == [buffer, other]

    def test_bayer_in_mipis_packing_is_known(self, buffer):
        with libcamera.image(
            planes((buffer.fileno(), 0, 3840)), configured("SRGGB10_CSI2P", 80)
        ) as image:
            assert image.format.name == "SRGGB10P"

    @pytest.mark.parametrize(
        ("name", "stride", "words"),
        [("MJPEG", 0, "no pixel format"), ("NV12", 1 << 20, "outside|reach|bytes")],
    )
    def test_what_is_no_image_here_leaves_nothing_open(self, buffer, name, stride, words):
        with pytest.raises(ValueError, match=words):
            libcamera.image(planes((buffer.fileno(), 0, 4608)), configured(name, stride))

    def test_colours_are_told(self, buffer):
        about = configured("NV12", 64)
        names = {"ycbcrEncoding": "Rec709", "range": "Limited"}
        about.color_space = SimpleNamespace(
            **{name: SimpleNamespace(name=value) for name, value in names.items()}
        )
        with libcamera.image(planes((buffer.fileno(), 0, 4608)), about) as image:
            assert image.color_encoding is dmabuf.image.ColorEncoding.BT709
            assert image.color_range is dmabuf.image.ColorRange.LIMITED


@pytest.mark.needs("exporter", "no libcamera")
def test_without_its_bindings_their_package_is_named(buffer):
    with pytest.raises(ImportError, match="python3-libcamera"):
        libcamera.frame_buffers([Image(buffer, "R8", 64, 48)])

"""A camera for many programs, and for another machine: the programs of examples/ as they stand."""

import json
import signal
import socket
import struct
import time
import zlib

import pytest
from helpers import cameras
from helpers.background import command, example
from helpers.publishing import Process, serve_until

import dmabuf
from dmabuf.share import Publisher, Subscriber

FRAMES = 12
WIDTH, HEIGHT = 64, 48


@pytest.mark.needs("vivid", "root", "opencv")
class TestCamera:
    @pytest.fixture
    def service(self, path):
        with cameras.camera():
            pass  # it stays set up as it is
        words = ["--camera", cameras.find("vivid"), "--size", "320", "180"]
        with example("camera_service.py", "--socket", path, *words) as service:
            assert service.wait_for("/dev/video").endswith(f": NV12 320x180, at {path}\n")
            yield service

    def test_a_client_measures_the_pictures(self, service, path):
        with example("camera_client.py", "--socket", path, "--frames", "10") as client:
            status, printed, errors = client.end()
        assert (status, errors) == (0, "")
        *lines, last = printed.splitlines()
        for line in lines:
            assert " frames per second, " in line
            assert float(line.split("brightness ")[1].split(",")[0]) > 16
            assert int(line.split("sharpness ")[1]) > 0  # the edges of the bars
        assert last.startswith("10 frames, ")
        assert last.endswith(" missed, none copied")
        assert service.stop()[:2] == (0, f"{service.printed}")

    def test_one_that_dies_costs_the_others_nothing(self, service, path):
        def hold(tell):
            with Subscriber(path) as subscriber, subscriber.frame(60):
                tell(b"held")
                signal.pause()

        with (
            example("camera_client.py", "--socket", path) as client,
            command("receive", path, "--hold") as receiver,
            Process(hold) as subscriber,
        ):
            receiver.wait_for("holding")
            assert subscriber.hear() == b"held"
            subscriber.kill()
            receiver.signal(signal.SIGKILL)
            for _ in range(3):
                client.wait_for(" frames per second")
            status, printed, errors = service.stop()
            assert (status, errors) == (0, "")
            assert printed.endswith("stopped\n")
            status, printed, errors = client.end()
            assert (status, errors) == (0, "")
            assert printed.endswith(", none copied\n")


def endpoint():
    """Return an endpoint of this machine's own that nobody listens at."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return f"tcp/127.0.0.1:{sock.getsockname()[1]}"


def draw(number):
    """Return a picture whose padded rows hold a number, and a checksum of what follows it."""
    image = dmabuf.Image.allocate("NV12", WIDTH, HEIGHT, stride_align=128)
    body = bytes((number * 7 + place) % 251 for place in range(WIDTH * HEIGHT * 3 // 2 - 12))
    data = struct.pack("<QI", number, zlib.crc32(body)) + body
    with image.write() as (luma, chroma):
        luma[:] = memoryview(data[: luma.size]).cast("B", luma.shape)
        chroma[:] = memoryview(data[luma.size :]).cast("B", chroma.shape)
    return image


def number_in(planes):
    """Return the number in a picture; it fails if anything in it is torn."""
    data = b"".join(plane.tobytes() for plane in planes)
    number, checksum = struct.unpack_from("<QI", data)
    assert zlib.crc32(data[12:]) == checksum, f"frame {number} is torn"
    return number


@pytest.mark.needs("heap", "root", "zenoh")
class TestNetwork:
    def test_frames_arrive_whole_in_buffers_of_the_other_side(self, path):
        there, where = f"{path}-there", endpoint()
        words = ["--endpoint", where, "--socket"]

        def check(tell):
            numbers = []
            with Subscriber(there, reconnect=True) as subscriber:
                for frame in subscriber:
                    with frame, frame.image.read() as planes:
                        image = frame.image
                        assert (image.format.name, image.width, image.height) == ("NV12", 64, 48)
                        numbers.append(number_in(planes))
                        *_, sequence = json.loads(frame.message)
                        assert sequence == numbers[-1]
                    if len(numbers) == FRAMES:
                        break
            assert numbers == sorted(set(numbers))
            tell(b"checked")

        with (
            Publisher(path) as publisher,
            example("camera_over_network.py", "receive", *words, there) as receiver,
            example("camera_over_network.py", "send", *words, path) as sender,
            Process(check) as checker,
        ):
            assert receiver.wait_for("publishing") == f"publishing at {there}\n"
            assert sender.wait_for("sending") == f"sending {path}\n"
            number = 0
            while not checker.has_told():
                publisher.publish(draw(number))
                number += 1
                publisher.service(0.05)
            assert checker.hear() == b"checked"
            assert checker.wait() == 0
            serve_until(publisher, lambda: publisher.subscribers()[0].held == 0)
            publisher.close()
            assert sender.end()[::2] == (0, "")
            status, printed, errors = receiver.stop()
            assert (status, printed, errors) == (0, f"publishing at {there}\nstopped\n", "")

    def test_what_is_no_frame_is_left_out(self, path):
        where = endpoint()
        words = ["receive", "--endpoint", where, "--socket", path]
        with example("camera_over_network.py", *words) as receiver:
            receiver.wait_for("publishing")
            with Subscriber(path) as subscriber, Process(lambda tell: send_nonsense(where)) as bad:
                with subscriber.frame(60) as frame, frame.image.read() as (plane,):
                    assert plane.tobytes() == b"pixels"
                assert bad.wait() == 0
            status, printed, errors = receiver.stop()
        assert (status, errors) == (0, "")
        assert printed.count("a message is no frame: ") == 7


def send_nonsense(where):
    """Send what is no frame, and one frame, in a process of its own: Zenoh leaves threads."""
    import zenoh

    config = {
        "mode": "peer",
        "connect": {"endpoints": [where]},
        "listen": {"endpoints": []},
        "scouting": {"multicast": {"enabled": False}, "gossip": {"enabled": False}},
    }
    with (
        zenoh.open(zenoh.Config.from_json5(json.dumps(config))) as session,
        session.declare_publisher("camera/frames") as outgoing,
    ):
        while not outgoing.matching_status:
            time.sleep(0.01)
        outgoing.put(b"pixels")
        for about in (["NV12", 64, 48, 0], ["NV12", -2, 2, 0], [[], 2, 2, 0], 7, ["R8"]):
            outgoing.put(b"pixels", attachment=json.dumps(about))
        outgoing.put(b"pixels", attachment=b"\xff{")
        outgoing.put(b"pixels", attachment=json.dumps(["R8", 3, 2, 0]))

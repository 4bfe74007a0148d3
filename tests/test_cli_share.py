"""dmabuf-alloc send and receive: two shells, one buffer; one camera, many receivers."""

import itertools
import json
import os
import signal

import pytest
from helpers import cameras
from helpers.background import command
from helpers.publishing import Client

import dmabuf
from dmabuf.cli import main
from dmabuf.share import Publisher, Subscriber

CONTENT = bytes(range(256)) * 20


@pytest.fixture
def content(tmp_path):
    file = tmp_path / "content"
    file.write_bytes(CONTENT)
    return str(file)


def inode(printed):
    """Return the inode of the one buffer in a table that was printed."""
    pairs = itertools.pairwise(printed.splitlines())
    (row,) = (line.split() for before, line in pairs if before.startswith("buffer  "))
    return int(row[-3])


def fails(capfd, status, *words):
    """Assert that the command fails with one line, and return it."""
    assert main(list(words)) == status
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("dmabuf-alloc: ")
    assert err.count("\n") == 1
    return err.removeprefix("dmabuf-alloc: ")


@pytest.mark.needs("heap", "root")
class TestBuffer:
    def test_two_shells_have_one_buffer(self, path, content, tmp_path):
        copy = tmp_path / "copy.raw"
        with command("send", path, "--fill-from", content, "--name", "gift") as sender:
            sender.wait_for("serving")
            with command("receive", path, "--save", copy) as receiver:
                status, received, errors = receiver.end()
                assert (status, errors) == (0, "")
            status, sent, errors = sender.end()
            assert (status, errors) == (0, "")
        assert inode(received) == inode(sent)
        assert "gift" in received
        assert copy.read_bytes() == CONTENT.ljust(8192, b"\0")
        assert f"saved {copy}\n1 frame, 0 dropped\n" in received
        assert sent.endswith("given to 1 receiver\n")
        assert not os.path.exists(path)

    def test_the_receiver_may_come_first(self, path):
        with command("receive", path, "--timeout", "60") as receiver:
            with command("send", path, "4K") as sender:
                assert sender.end()[0] == 0
            status, received, errors = receiver.end()
        assert (status, errors) == (0, "")
        assert received.endswith("1 frame, 0 dropped\n")

    def test_a_receiver_may_keep_it(self, path):
        with command("send", path, "4K") as sender:
            sender.wait_for("serving")
            with command("receive", path, "--hold") as receiver:
                line = receiver.wait_for("holding")
                assert line == f"holding until Ctrl-C or kill {receiver.pid}\n"
                assert receiver.stop()[0] == 0
                assert receiver.printed.endswith("released\n")
            assert sender.end()[0] == 0

    def test_several_receivers_have_it_one_after_the_other(self, path):
        with command("send", path, "4K", "--count", "2") as sender:
            sender.wait_for("serving")
            inodes = set()
            for _ in range(2):
                with command("receive", path, "--count", "1") as receiver:
                    inodes.add(inode(receiver.end()[1]))
            status, sent, _ = sender.end()
        assert status == 0
        assert inodes == {inode(sent)}
        assert sent.endswith("given to 2 receivers\n")

    def test_hold_gives_it_to_all_until_it_is_stopped(self, path):
        with command("send", path, "4K", "--hold") as sender:
            sender.wait_for("serving")
            with command("receive", path, "--hold") as first:
                first.wait_for("holding")
                with command("receive", path, "--count", "1") as second:
                    assert second.end()[0] == 0
                assert inode(second.printed) == inode(first.printed)
                first.stop()
            status, sent, errors = sender.stop()
        assert (status, errors) == (0, "")
        assert inode(sent) == inode(first.printed)

    def test_a_receiver_that_is_killed_has_had_it(self, path):
        with command("send", path, "4K") as sender:
            sender.wait_for("serving")
            with command("receive", path, "--hold") as receiver:
                receiver.wait_for("holding")
                receiver.signal(signal.SIGKILL)
                receiver.end()
            assert sender.end()[0] == 0

    @pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
    def test_both_are_stopped_while_they_wait(self, path, stop):
        with command("send", path, "4K", "--hold") as sender:
            sender.wait_for("serving")
            with command("receive", path) as receiver:
                receiver.wait_for("system")
                receiver.signal(stop)
                status, received, errors = receiver.end()
                assert (status, errors) == (0, "")
                assert received.endswith("1 frame, 0 dropped\n")
            sender.signal(stop)
            assert sender.end()[::2] == (0, "")
        assert not os.path.exists(path)

    def test_a_program_of_yours_gets_it(self, path, content):
        with command("send", path, "--fill-from", content) as sender:
            sender.wait_for("serving")
            with (
                Subscriber(path) as subscriber,
                subscriber.frame(60) as frame,
                frame.buffers[0].read() as memory,
            ):
                assert bytes(memory[: len(CONTENT)]) == CONTENT
            assert sender.end()[0] == 0

    def test_a_terminal_shows_what_goes_on(self, path):
        ours, theirs = os.openpty()
        with (
            Publisher(path) as publisher,
            command("receive", path, "--count", "3", stderr=theirs) as receiver,
        ):
            os.close(theirs)
            while not receiver.has_ended:
                publisher.publish(dmabuf.allocate(4096))
                publisher.service(0.3)
            assert receiver.end()[0] == 0
        with open(ours, "rb", buffering=0) as terminal:
            shown = terminal.read(4096)
        assert shown.startswith(b"\r\x1b[K1 frame, 0 dropped")
        assert shown.endswith(b"\r\x1b[K")

    def test_json_says_what_both_had(self, path):
        with command("send", path, "4K", "--json", "--name", "gift") as sender:
            with command("receive", path, "--timeout", "60", "--json") as receiver:
                received = json.loads(receiver.end()[1])
            sent = json.loads(sender.end()[1])
        assert (received["command"], sent["command"]) == ("receive", "send")
        assert received["buffers"][0]["inode"] == sent["buffers"][0]["inode"]
        assert (received["frames"], sent["receivers"]) == (1, 1)


@pytest.mark.needs("vivid", "root")
class TestCamera:
    @pytest.fixture
    def service(self, path):
        with cameras.camera():
            pass  # it stays set up as it is
        node = cameras.find("vivid")
        words = ["--camera", node, "--format", "RGB888", "--size", "320x180"]
        with command("send", path, *words) as service:
            service.wait_for("serving")
            yield service

    def test_receivers_are_told_the_rate_and_have_a_picture(self, service, path, tmp_path):
        from PIL import Image

        picture = tmp_path / "frame.png"
        with command("receive", path, "--count", "8", "--save", picture) as receiver:
            status, received, errors = receiver.end()
        assert (status, errors) == (0, "")
        assert "RGB888 320x180" in received
        last = received.splitlines()[-1]
        assert last.startswith("8 frames, ")
        assert " frames per second, " in last
        assert last.endswith(" dropped")
        with Image.open(picture) as image:
            assert image.size == (320, 180)
            bars = {image.getpixel((320 * bar // 16, 170)) for bar in range(1, 16, 2)}
        assert len(bars) == 8
        status, sent, errors = service.stop()
        assert (status, errors) == (0, "")
        assert "camera /dev/video" in sent
        assert ": RGB888 320x180, 6 buffers" in sent
        assert sent.splitlines()[-1].startswith("published ")

    def test_many_may_come_and_die(self, service, path):
        for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT):
            with command("receive", path, "--hold") as receiver:
                receiver.wait_for("holding")
                receiver.signal(number)
                receiver.end()
        with command("receive", path, "--count", "5", "--json") as receiver:
            assert json.loads(receiver.end()[1])["frames"] == 5

    def test_a_service_that_is_killed_is_told(self, service, path):
        with command("receive", path) as receiver:
            receiver.wait_for("RGB888")
            service.signal(signal.SIGKILL)
            status, received, errors = receiver.end()
        assert status == 1
        assert received.splitlines()[-1].endswith(" dropped")
        assert errors.startswith("dmabuf-alloc: the publisher died, or disconnected this receiver")
        assert errors.count("\n") == 1

    def test_count_ends_it(self, path):
        with command("send", path, "--camera", cameras.find("vivid"), "--count", "3") as service:
            service.wait_for("serving")
            status, sent, errors = service.end()
        assert (status, errors) == (0, "")
        assert sent.splitlines()[-1].startswith("published 3 frames, ")

    def test_json_says_what_the_camera_gave(self, path):
        node = cameras.find("vivid")
        words = ["--format", "YUYV", "--size", "320x180", "--count", "3", "--json"]
        with command("send", path, "--camera", node, *words) as service:
            document = json.loads(service.end()[1])
        camera = {"node": node, "format": "YUYV", "width": 320, "height": 180}
        assert document["camera"] == camera
        assert document["published"]["frames"] == 3

    def test_a_format_that_it_has_not_is_said(self, path, capfd):
        node = cameras.find("vivid")
        words = ["send", path, "--camera", node, "--format"]
        assert "the device has no format NOPE; it has YUYV" in fails(capfd, 1, *words, "NOPE")
        assert "nonsense" in fails(capfd, 2, *words, "nonsense")


class TestErrors:
    @pytest.mark.parametrize(
        ("words", "said"),
        [
            ("", "nothing to send: give a SIZE, --fill-from FILE or --camera NODE"),
            ("4K --camera /dev/video0", "SIZE can't be used with --camera"),
            ("4K --size 8x8", "--size WxH can't be used with a buffer"),
            ("4K --hold --count 2", "--hold and --count exclude each other"),
            ("4K --mode 999", "'999' are not permissions"),
            ("--camera /dev/video0 --size 640", "'640' is not a picture size"),
            ("--fill-from /dev/zero", "/dev/zero has no known size"),
            ("4K --name " + "n" * 32, "31"),
        ],
    )
    def test_send_refuses_what_makes_no_sense(self, path, words, said, capfd):
        assert said in fails(capfd, 2, "send", path, *words.split())
        assert not os.path.exists(path)

    @pytest.mark.parametrize("word", ["send", "receive"])
    @pytest.mark.parametrize(
        ("where", "said"), [("", "a path or '@name'"), ("@", "'@name'"), ("x" * 200, "107 bytes")]
    )
    def test_what_is_no_place_of_a_socket_is_refused(self, word, where, said, capfd):
        assert said in fails(capfd, 2, word, where)

    def test_a_camera_that_is_not_there_is_named(self, path, capfd):
        assert "/dev/nope" in fails(capfd, 1, "send", path, "--camera", "/dev/nope")

    def test_a_file_that_is_not_there_is_named(self, path, capfd):
        assert "/nope" in fails(capfd, 1, "send", path, "--fill-from", "/nope")

    def test_receive_says_that_nobody_is_there(self, path, capfd):
        assert "no publisher at" in fails(capfd, 1, "receive", path)

    def test_receive_waits_no_longer_than_it_is_told(self, path, capfd):
        assert "no publisher at" in fails(capfd, 1, "receive", path, "--timeout", "0.01")
        with Publisher(path):
            line = fails(capfd, 1, "receive", path, "--timeout", "0")
        assert line == f"no frame from {path} within 0 s\n"

    @pytest.mark.parametrize("depth", ["0", "65", "x"])
    def test_receive_refuses_a_depth_that_can_not_be(self, path, depth, capfd):
        assert "argument --depth" in fails(capfd, 2, "receive", path, "--depth", depth)

    def test_receive_refuses_a_picture_without_an_ending(self, path, capfd):
        assert "does not end as a picture" in fails(capfd, 2, "receive", path, "--save", "frame")

    @pytest.mark.needs("heap", "root")
    def test_what_is_no_picture_is_said(self, path, tmp_path):
        with command("send", path, "4K") as sender:
            sender.wait_for("serving")
            with command("receive", path, "--save", tmp_path / "x.png") as receiver:
                status, _, errors = receiver.end()
            assert sender.end()[0] == 0
        assert status == 1
        said = "the frame is not a picture that can be read; save it as .raw"
        assert errors == f"dmabuf-alloc: {said}\n"

    @pytest.mark.needs("heap", "root")
    def test_a_second_sender_at_a_path_is_refused(self, path, capfd):
        with Publisher(path):
            assert path in fails(capfd, 1, "send", path, "4K")

    @pytest.mark.needs("heap", "root")
    def test_a_client_that_says_nonsense_stops_no_sender(self, path):
        with command("send", path, "4K") as sender:
            sender.wait_for("serving")
            with Client(path) as client:
                client.sock.send(b"nonsense")
            with command("receive", path) as receiver:
                assert receiver.end()[0] == 0
            assert sender.end()[0] == 0

"""The unixfd protocol and caps: what is packed is parsed again, and what can't be is refused."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import socket
import struct
import threading
from fractions import Fraction

import pytest
from helpers.examples import examples
from helpers.process import in_child
from helpers.turns import STEPS, has_turns
from helpers.unixfd import CAPS, RawClient, RawSink, memfd
from hypothesis import given
from hypothesis import strategies as st

from dmabuf._scm import MessageError
from dmabuf.image import FORMATS, ColorEncoding, ColorRange
from dmabuf.image.formats import pixel_format
from dmabuf.interop import gstreamer
from dmabuf.interop.gstreamer._caps import Picture, caps_text, parse_caps
from dmabuf.interop.gstreamer._formats import NAMES
from dmabuf.interop.gstreamer._unixfd import (
    HEADER_BYTES,
    BufferMessage,
    Kind,
    Memory,
    VideoMeta,
    pack,
    pack_buffer,
    pack_caps,
    pack_release,
    parse_buffer,
    parse_caps_text,
    parse_header,
    parse_release,
)

pytestmark = pytest.mark.needs("outside")  # it asks no kernel

U64 = st.integers(0, 2**64 - 2)
TIMES = st.none() | U64
SIZES = st.builds(Memory, st.integers(1, 2**62), st.integers(0, 2**61))
VIDEO = st.integers(1, 4).flatmap(
    lambda count: st.builds(
        VideoMeta,
        st.integers(0, 140),
        st.integers(0, 2**32 - 1),
        st.integers(0, 2**32 - 1),
        st.tuples(*[U64] * count),
        st.tuples(*[st.integers(-(2**31), 2**31 - 1)] * count),
    )
)
MESSAGES = st.builds(
    BufferMessage,
    U64,
    TIMES,
    TIMES,
    TIMES,
    st.booleans(),
    st.lists(SIZES, min_size=1, max_size=16).map(tuple),
    st.none() | VIDEO,
)
FRAME = BufferMessage(7, 1000, None, 40, False, (Memory(1024, 0),))
PIXELS = bytes(range(256)) * 4


class TestMessages:
    @given(MESSAGES)
    def test_a_buffer_is_parsed_as_it_was_packed(self, message):
        packed = pack_buffer(message)
        kind, length = parse_header(packed[:HEADER_BYTES])
        assert (kind, length) == (Kind.NEW_BUFFER, len(packed) - HEADER_BYTES)
        assert parse_buffer(packed[HEADER_BYTES:]) == message

    @given(st.binary(max_size=300))
    def test_any_bytes_are_a_buffer_or_refused(self, data):
        with contextlib.suppress(MessageError):
            assert parse_buffer(data).memories

    @given(MESSAGES, st.data())
    def test_a_buffer_that_is_changed_or_cut_is_a_buffer_or_refused(self, message, data):
        payload = bytearray(pack_buffer(message)[HEADER_BYTES:])
        place = data.draw(st.integers(0, len(payload) - 1))
        payload[place] = data.draw(st.integers(0, 255))
        with contextlib.suppress(MessageError):
            parse_buffer(bytes(payload))
        with pytest.raises(MessageError):
            parse_buffer(pack_buffer(message)[HEADER_BYTES:][: place or 1])

    @given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
    def test_caps_are_text_that_a_nul_ends(self, text):
        assert parse_caps_text(pack_caps(text)[HEADER_BYTES:]) == text

    @pytest.mark.parametrize("payload", [b"", b"no end", b"\xff\0", b"two\0\0", b"a\0b"])
    def test_other_caps_are_refused(self, payload):
        with pytest.raises(MessageError):
            parse_caps_text(payload)

    @given(U64)
    def test_a_release_is_parsed_as_it_was_packed(self, number):
        assert parse_release(pack_release(number)[HEADER_BYTES:]) == number

    @pytest.mark.parametrize("header", [(0, 2**32 - 1), (99, 1 << 17), (1, 4), (1, 0)])
    def test_absurd_lengths_are_refused(self, header):
        with pytest.raises(MessageError):
            parse_header(struct.pack("=II", *header))

    @pytest.mark.parametrize(
        "changes",
        [
            {"memories": ()},
            {"memories": (Memory(1, 0),) * 17},
            {"memories": (Memory(0, 0),)},
            {"memories": (Memory(2**63, 2**63),)},
            {"video": VideoMeta(1, 1, 1, (), ())},
            {"video": VideoMeta(1, 1, 1, (0,) * 5, (0,) * 5)},
        ],
    )
    def test_what_no_buffer_can_be_is_refused(self, changes):
        with pytest.raises(MessageError):
            parse_buffer(pack_buffer(FRAME._replace(**changes))[HEADER_BYTES:])


class TestCaps:
    @given(
        st.sampled_from(sorted(NAMES)),
        st.integers(1, 1 << 20),
        st.integers(1, 1 << 20),
        st.none() | st.fractions(Fraction(1, 1001), 1000, max_denominator=1001),
    )
    def test_a_picture_is_read_as_it_was_told(self, name, width, height, rate):
        picture = Picture(pixel_format(name), width, height, 0)
        caps = parse_caps(caps_text(picture, frame_rate=rate, drm=False))
        assert (caps.picture(), caps.features, caps.frame_rate) == (picture, (), rate)

    @given(
        st.sampled_from(sorted(name for name, entry in FORMATS.items() if entry.drm is not None)),
        st.sampled_from([0, 1, 0x0100000000000002, 2**64 - 1]),
    )
    def test_importers_are_told_fourcc_and_modifier(self, name, modifier):
        picture = Picture(pixel_format(name), 64, 48, modifier)
        caps = parse_caps(caps_text(picture, frame_rate=None, drm=True))
        assert caps.picture() == picture
        assert caps.features == ("memory:DMABuf",)
        assert caps.fields["format"] == "DMA_DRM"

    @pytest.mark.parametrize("encoding", ColorEncoding)
    @pytest.mark.parametrize("range_", ColorRange)
    def test_the_colours_of_yuv_are_told(self, encoding, range_):
        picture = Picture(pixel_format("NV12"), 64, 48, 0, encoding, range_)
        for drm in (False, True):
            assert parse_caps(caps_text(picture, frame_rate=None, drm=drm)).picture() == picture
        rgb = picture._replace(format=pixel_format("XRGB8888"))
        assert "colorimetry" not in caps_text(rgb, frame_rate=None, drm=False)

    @pytest.mark.parametrize(
        ("text", "colors"),
        [
            ("bt709", (ColorEncoding.BT709, ColorRange.LIMITED)),
            ("bt601", (ColorEncoding.BT601, ColorRange.LIMITED)),
            ("bt2100-pq", (ColorEncoding.BT2020, ColorRange.LIMITED)),
            ("1:4:7:1", (ColorEncoding.BT601, ColorRange.FULL)),
            ("sRGB", (None, ColorRange.FULL)),
            ("0:0:0:0", (None, None)),
            ("tomorrow", (None, None)),
            ("{ bt601, bt709 }", (None, None)),
        ],
    )
    def test_gstreamers_colorimetry_is_read(self, text, colors):
        caps = parse_caps(f"video/x-raw, format=NV12, width=64, height=48, colorimetry={text}")
        assert caps.picture()[4:] == colors

    @pytest.mark.parametrize(
        ("text", "fields"),
        [
            ("video/x-raw", {}),
            ("a/b, x=(int)1, y=2;", {"x": "1", "y": "2"}),
            (' a/b ( memory:X , meta:Y ) , x = (string) "q, \\"r\\"; s" ', {"x": 'q, "r"; s'}),
            ("a/b, r=(int)[ 1, 5 ], l=(string){ a, b }, z=(fraction)1/2", None),
        ],
    )
    def test_gstreamers_text_is_read(self, text, fields):
        found = parse_caps(text).fields
        wanted = {"r": "[ 1, 5 ]", "l": "{ a, b }", "z": "1/2"} if fields is None else fields
        assert dict(found) == wanted

    @pytest.mark.parametrize(
        "text", ["", "ANY,", "/x", "a/b, x", "a/b, x=", 'a/b, x="open', "a/b; c/d", "a" * 70000]
    )
    def test_what_is_no_caps_is_refused(self, text):
        with pytest.raises(ValueError, match=r"caps"):
            parse_caps(text)

    @given(st.text(max_size=200))
    def test_any_text_is_caps_or_refused(self, text):
        with contextlib.suppress(ValueError):
            parse_caps(text).picture()

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("image/jpeg, width=4, height=4", "has no pixels"),
            ("video/x-raw, format=NV12, height=4", "width is ''"),
            ("video/x-raw, format=NV12, width=0, height=4", "width is '0'"),
            ("video/x-raw, format=v210, width=4, height=4", "'v210' is not known to dmabuf"),
            ("video/x-raw, format=DMA_DRM, width=4, height=4", "drm-format=''"),
            ("video/x-raw, format=DMA_DRM, drm-format=XXXX, width=4, height=4", "'XXXX'"),
        ],
    )
    def test_a_stream_without_known_pixels_says_so(self, text, message):
        with pytest.raises(ValueError, match=message):
            parse_caps(text).picture()


@pytest.fixture
def pair(path):
    """Give a sink of the test's own, and a source that is connected to it."""
    with RawSink(path) as sink, gstreamer.Source(path) as source:
        sink.accept()
        yield sink, source


@contextlib.contextmanager
def frame_memory(data: bytes = PIXELS):
    number = memfd(data)
    try:
        yield number
    finally:
        os.close(number)


class TestSource:
    def test_a_frame_is_read_and_released(self, pair):
        sink, source = pair
        sink.caps()
        with frame_memory() as number:
            sink.send(pack_buffer(FRAME), [number])
        with source.frame(60) as frame:
            assert (frame.pts, frame.dts, frame.duration) == (1000, None, 40)
            assert frame.caps.picture()[:4] == (pixel_format("R8"), 64, 16, 0)
            assert frame.copy() == PIXELS
            with pytest.raises(ValueError, match="more than the limit"):
                frame.copy(limit=10)
        assert sink.sock.recv(64) == pack_release(7)
        frame.close()
        with pytest.raises(ValueError, match="given back"):
            frame.copy()

    def test_a_message_may_come_in_pieces(self, pair):
        sink, source = pair
        message = pack_caps(CAPS) + pack(Kind(3))
        for place in range(len(message) - 1):
            sink.sock.sendall(message[place : place + 1])
            assert source._take() is None
        sink.sock.sendall(message[-1:])
        with pytest.raises(EOFError):
            source.frame(60)
        assert source.caps.picture().width == 64

    def test_unknown_messages_are_skipped(self, pair):
        sink, source = pair
        sink.sock.sendall(struct.pack("=II", 77, 5) + b"hello" + struct.pack("=II", 78, 0))
        sink.caps()
        with frame_memory() as number:
            sink.send(pack_buffer(FRAME), [number])
        source.frame(60).close()

    def test_memory_that_shrinks_is_an_error_and_no_signal(self, pair):
        sink, source = pair
        sink.caps()
        with frame_memory() as number:
            sink.send(pack_buffer(FRAME), [number])
            with source.frame(60) as frame:
                os.ftruncate(number, 100)
                with pytest.raises(ValueError, match="has shrunk"):
                    frame.copy()

    def test_releases_go_after_the_end_too(self, pair):
        sink, source = pair
        sink.caps()
        with frame_memory() as number:
            sink.send(pack_buffer(FRAME), [number])
        sink.send(pack(Kind.EOS))
        with source.frame(60):
            with pytest.raises(EOFError):
                source.frame(60)
            assert list(source) == []
        assert sink.sock.recv(64) == pack_release(7)

    def test_nothing_within_the_time_is_a_time_out(self, pair):
        _, source = pair
        with pytest.raises(TimeoutError, match="no frame"):
            source.frame(0)

    def test_a_task_iterates(self, pair):
        sink, source = pair

        async def feed() -> list[bytes]:
            found = []
            sink.caps()
            with frame_memory() as number:
                for _ in range(3):
                    sink.send(pack_buffer(FRAME), [number])
            sink.send(pack(Kind.EOS))
            async for frame in source:
                with frame:
                    found.append(frame.copy())
            return found

        assert asyncio.run(feed()) == [PIXELS] * 3

    def test_frames_that_have_come_give_other_tasks_a_turn(self, pair):
        sink, source = pair
        sink.caps()
        with frame_memory() as number:
            for _ in range(STEPS):
                sink.send(pack_buffer(FRAME), [number])

        async def step() -> None:
            with await anext(source):
                pass

        assert has_turns(step)

    def test_another_threads_close_ends_a_wait(self, pair):
        _, source = pair
        errors = []

        def wait() -> None:
            try:
                source.frame(60)
            except ValueError as error:
                errors.append(str(error))

        thread = threading.Thread(target=wait)
        thread.start()
        source.close()
        thread.join(60)
        assert len(errors) == 1
        assert "closed" in errors[0]

    def test_a_forked_child_has_a_closed_one_and_the_parent_goes_on(self, pair):
        sink, source = pair
        assert in_child(lambda: source.closed)
        sink.caps()
        sink.send(pack(Kind.EOS))
        with pytest.raises(EOFError):
            source.frame(60)

    @pytest.mark.parametrize(
        ("message", "descriptors"),
        [
            (pack_buffer(FRAME), 0),
            (pack_buffer(FRAME), 2),
            (pack_buffer(FRAME._replace(is_dma_buf=True)), 1),
            (pack_buffer(FRAME._replace(memories=(Memory(1025, 0),))), 1),
            (pack_buffer(FRAME._replace(memories=(Memory(1024, 1),))), 1),
            (pack_buffer(FRAME._replace(memories=(Memory(2**62, 2**62),))), 1),
            (pack_buffer(FRAME)[:-1] + b"\xff", 1),
            (pack_caps("nonsense =")[:-1] + b"x", 0),
            (struct.pack("=II", 0, 2**31), 1),
            (struct.pack("=II", 1, 3) + b"abc", 0),
        ],
    )
    def test_what_can_not_be_ends_the_connection_and_leaks_nothing(
        self, pair, message, descriptors
    ):
        sink, source = pair
        sink.caps()
        with frame_memory() as number:
            sink.send(message, [number] * descriptors)
        with pytest.raises(MessageError):
            source.frame(60)
        with pytest.raises(ConnectionError, match="was left"):
            source.frame(60)
        assert sink.sock.recv(64) == b""

    def test_a_file_that_is_no_shared_memory_is_refused(self, pair):
        sink, source = pair
        sink.caps()
        sink.send(pack_buffer(FRAME), [sink.sock.fileno()])
        with pytest.raises(MessageError, match="descriptor 0 of a message is wrong"):
            source.frame(60)

    def test_a_buffer_before_caps_is_refused(self, pair):
        sink, source = pair
        with frame_memory() as number:
            sink.send(pack_buffer(FRAME), [number])
        with pytest.raises(MessageError, match="before any caps"):
            source.frame(60)

    @pytest.mark.parametrize("length", range(0, 80, 7))
    def test_half_a_message_and_the_end_is_an_error(self, pair, length):
        sink, source = pair
        sink.caps()
        with frame_memory() as number:
            sink.send(pack_buffer(FRAME)[: length + 1], [number])
        sink.sock.close()
        with pytest.raises(MessageError):
            source.frame(60)

    @examples(200)
    @given(st.lists(st.tuples(st.binary(min_size=1, max_size=90), st.integers(0, 2)), max_size=6))
    def test_a_source_outlives_anything(self, parts):
        path = f"@dmabuf-test-{os.getpid()}-{random.getrandbits(64)}"
        with RawSink("\0" + path[1:]) as sink, gstreamer.Source(path) as source:
            sink.accept()
            sink.caps()
            with frame_memory() as number:
                for data, count in parts:
                    sink.send(data, [number] * count)
            sink.sock.close()
            with contextlib.suppress(MessageError, ConnectionError):
                list(map(gstreamer.PipelineFrame.close, source))

    def test_nobody_there_says_how_to_start_one(self, path):
        with pytest.raises(FileNotFoundError, match="unixfdsink socket-path"):
            gstreamer.Source(path)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.bind(path)
            with pytest.raises(ConnectionRefusedError, match="unixfdsink socket-path"):
                gstreamer.Source(path)


class TestSink:
    def test_a_client_that_talks_nonsense_is_let_go(self, path):
        with gstreamer.Sink(path) as sink, RawClient(path) as bad, RawClient(path) as good:
            sink.service(60)
            assert len(sink.clients()) == 2
            bad.release(5)  # it holds nothing
            sink.service(60)
            assert len(sink.clients()) == 1
            assert bad.sock.recv(8) == b""
            sink.end()
            assert good.read() == (Kind.EOS, b"")

    @examples(200)
    @given(st.lists(st.binary(min_size=1, max_size=50), max_size=5))
    def test_a_sink_outlives_anything(self, parts):
        path = f"@dmabuf-test-{os.getpid()}-{random.getrandbits(64)}"
        with gstreamer.Sink(path) as sink, RawClient("\0" + path[1:]) as client:
            sink.service(60)
            for data in parts:
                with contextlib.suppress(ConnectionError):
                    client.sock.sendall(data)
                sink.service()
            client.sock.close()
            while sink.clients():
                sink.service(60)

    def test_descriptors_of_a_client_are_not_taken(self, path):
        with gstreamer.Sink(path) as sink, RawClient(path) as client:
            sink.service(60)
            socket.send_fds(client.sock, [b"\x4d\0\0\0\0\0\0\0"], [0, 1, 2])
            sink.service(60)
            assert len(sink.clients()) == 1

    @pytest.mark.parametrize(
        "words",
        [
            {"depth": 0},
            {"depth": 65},
            {"in_flight": 0},
            {"block": -1.0},
            {"hold_timeout": -1.0},
            {"frame_rate": -1},
        ],
    )
    def test_limits_that_can_not_be_are_refused(self, path, words):
        with pytest.raises(ValueError, match="must be"):
            gstreamer.Sink(path, **words)
        assert not os.path.exists(path)

    def test_a_forked_child_has_a_closed_one_and_the_parent_goes_on(self, path):
        with gstreamer.Sink(path) as sink, RawClient(path) as client:
            sink.service(60)
            assert in_child(lambda: sink.closed)
            assert os.path.exists(path)
            sink.end()
            assert client.read() == (Kind.EOS, b"")

    def test_a_closed_sink_says_so_and_leaves_no_path(self, path):
        sink = gstreamer.Sink(path)
        sink.close()
        sink.close()
        assert not os.path.exists(path)
        for call in (sink.service, sink.end, sink.clients, sink.fileno, sink.wait):
            with pytest.raises(ValueError, match="closed Sink"):
                call()

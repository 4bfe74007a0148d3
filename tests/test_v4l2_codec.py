"""Stateful codecs: what is encoded is decoded again, whatever changes, waits or ends amid that."""

import asyncio
import contextlib
import errno
import gc
import threading

import pytest
from helpers import cameras, codecs, interrupt, leaks
from helpers.process import in_child
from helpers.tasks import waiting
from test_v4l2_stream import LONG, OVER, from_heap

from dmabuf.devices import v4l2

pytestmark = pytest.mark.needs("vicodec")
SIZE = codecs.WIDTH, codecs.HEIGHT
GARBAGE = b"no picture" * 100


@pytest.fixture
def encoder():
    with v4l2.Encoder(v4l2.Encoder.find(codecs.CODED)) as encoder:
        encoder.set_format("NV12", *SIZE, coded=codecs.CODED)
        yield encoder


@pytest.fixture
def decoder():
    with v4l2.Decoder(v4l2.Decoder.find(codecs.CODED)) as decoder:
        decoder.set_format(codecs.CODED, *codecs.LARGER)
        yield decoder


@pytest.fixture(scope="module")
def coded():
    """Give three pictures, and what the encoder makes of them."""
    return codecs.encoded(3)


@pytest.fixture(scope="module")
def larger():
    """Give two pictures of another size, and what the encoder makes of them."""
    return codecs.encoded(2, codecs.LARGER)


def data(packets):
    return [packet.data for packet in packets]


def is_right(frames, given):
    """Whether frames are these pictures, but for the codec's loss."""
    differences = [codecs.differ(frame, one) for frame, one in zip(frames, given, strict=True)]
    return max(differences) <= codecs.LOSS


class TestEncoder:
    def test_each_picture_becomes_a_frame_and_the_empty_last_one_none(self, coded):
        given, packets = coded
        assert len(packets) == len(given)
        assert all(0 < len(packet.data) < len(given[0]) for packet in packets)

    def test_the_part_that_was_asked_for_is_encoded(self, encoder):
        format = encoder.output.format()
        assert (format.width, format.height) == (640, 368)
        assert encoder.visible() == (0, 0, *SIZE)

    def test_times_are_kept(self, encoder):
        (given,) = codecs.pictures(1, encoder.output.format())
        with encoder.stream() as coding:
            coding.feed(given, timestamp=12.5)
            coding.stop()
            assert [codecs.packet(frame).timestamp for frame in coding] == [12.5]

    def test_stopping_without_a_picture_ends_it(self, encoder):
        with encoder.stream() as coding:
            coding.stop()
            coding.stop()
            assert list(coding) == []
            with pytest.raises(BrokenPipeError, match="has finished all that it was given"):
                coding.frame()

    def test_pictures_on_heap_buffers_are_encoded_where_they_are(self, encoder, coded):
        format = encoder.output.format()
        with contextlib.ExitStack() as stack:
            buffers = [stack.enter_context(from_heap(format.sizeimage[0])) for _ in range(5)]
            coding = stack.enter_context(encoder.stream(buffers[:2]))
            for buffer, given, wanted in zip(buffers[2:], *coded, strict=True):
                with buffer.write() as memory:
                    memory[: len(given)] = given
                coding.feed(format.image([buffer], (0,)))
                assert codecs.packet(coding.frame(LONG)).data == wanted.data

    def test_feeding_waits_until_results_are_taken(self, encoder):
        given = codecs.pictures(1, encoder.output.format())[0]
        with encoder.stream(count=1) as coding:

            def feed_all():
                for _ in range(4):
                    coding.feed(given, timeout=0.5)

            with pytest.raises(TimeoutError):
                feed_all()
            codecs.packet(coding.frame(LONG))
            coding.feed(given, timeout=LONG)

    def test_a_format_that_no_device_here_has_finds_none(self):
        with pytest.raises(OSError, match="there is no stateful encoder here for H265") as caught:
            v4l2.Encoder.find("H265")
        assert caught.value.errno == errno.ENODEV

    def test_it_is_none_of_other_devices(self):
        paths = [v4l2.Decoder.find(codecs.CODED), cameras.find("vivid")]
        for path in paths:
            with pytest.raises(OSError, match="is not a stateful encoder") as caught:
                v4l2.Encoder(path)
            assert caught.value.errno == errno.ENODEV


class TestDecoder:
    def test_what_was_encoded_comes_out(self, decoder, coded):
        given, packets = coded
        with decoder.stream() as coding:
            assert is_right(coding.process(data(packets)), given)
            assert decoder.visible() == (0, 0, *SIZE)
            assert (coding.format.width, coding.format.height) == (640, 368)

    def test_into_heap_buffers(self, decoder, coded):
        given, packets = coded
        formats = []

        def results(format):
            formats.append(format)
            return [stack.enter_context(from_heap(format.sizeimage[0])) for _ in range(3)]

        with contextlib.ExitStack() as stack:
            coding = stack.enter_context(decoder.stream(results=results))
            assert is_right(coding.process(data(packets)), given)
            assert formats == [coding.format]

    def test_another_size_brings_new_buffers_and_loses_nothing(self, decoder, coded, larger):
        (given, packets), (more, others) = coded, larger
        sizes = []
        with decoder.stream(count=2) as coding:
            frames = coding.process(data([*packets, *others, *packets]))
            for wanted in (*given, *more, *given):
                frame = next(frames)
                sizes.append(frame.image.height)
                assert codecs.differ(frame, wanted) <= codecs.LOSS
            assert next(frames, None) is None
        assert sizes == [368] * 3 + [400] * 2 + [368] * 3

    def test_a_picture_is_held_while_the_size_changes(self, decoder, coded, larger):
        (given, packets), (more, others) = coded, larger

        def results(format):
            return [stack.enter_context(from_heap(format.sizeimage[0])) for _ in range(3)]

        with contextlib.ExitStack() as stack:
            coding = stack.enter_context(decoder.stream(results=results))
            frames = coding.process([packets[0].data, *data(others)])
            held = next(frames)
            assert is_right(frames, more)
            assert codecs.differ(held, given[0]) <= codecs.LOSS

    def test_nothing_is_known_before_the_first_picture(self, decoder):
        with decoder.stream() as coding:
            assert coding.take() is None
            with pytest.raises(ValueError, match="has seen no picture yet"):
                _ = coding.format
            with pytest.raises(TimeoutError, match="feed it more, or stop"):
                coding.frame(0.01)

    def test_stopping_without_data_ends_it(self, decoder):
        with decoder.stream() as coding:
            coding.stop()
            assert list(coding) == []

    def test_stopping_before_the_size_is_known_loses_nothing(self, decoder, coded):
        given, packets = coded
        with decoder.stream() as coding:
            for one in data(packets):
                coding.feed(one)
            coding.stop()
            assert is_right(coding, given)

    def test_data_that_is_none_ends_with_an_error(self, decoder):
        with decoder.stream(count=2) as coding:
            for _ in range(5):
                coding.feed(GARBAGE, timeout=LONG)
            coding.stop()
            for _ in range(2):
                with pytest.raises(OSError, match="has found no FWHT in all that it was") as caught:
                    coding.frame(LONG)
                assert caught.value.errno == errno.EBADMSG
        with decoder.stream() as coding, pytest.raises(OSError, match="has found no FWHT"):
            list(coding.process([GARBAGE] * 5, LONG))

    def test_a_picture_behind_data_that_is_none_is_found(self, decoder, coded):
        given, packets = coded
        with decoder.stream() as coding:
            assert is_right(coding.process([GARBAGE, *data(packets)], LONG), given)

    def test_data_that_does_not_fit_is_refused(self, decoder):
        with decoder.stream() as coding:
            size = coding.sources.format.sizeimage[0]
            for wrong in (b"", bytes(size + 1)):
                with pytest.raises(ValueError, match=f"takes 1 to {size} bytes, not {len(wrong)}"):
                    coding.feed(wrong)

    def test_the_end_is_an_event_too(self, decoder, coded):
        with decoder.events(v4l2.EventType.EOS) as events, decoder.stream() as coding:
            for frame in coding.process(data(coded[1])):
                frame.leave()
            assert events.next(LONG).type is v4l2.EventType.EOS

    @pytest.mark.needs("visl")
    def test_it_is_no_stateless_decoder(self):
        for path in (cameras.find("visl", multi_planar=True), v4l2.Encoder.find(codecs.CODED)):
            with pytest.raises(OSError, match="is not a stateful decoder") as caught:
                v4l2.Decoder(path)
            assert caught.value.errno == errno.ENODEV


class TestTogether:
    def test_two_tasks_feed_and_take(self, decoder, coded, larger):
        (given, packets), (more, others) = coded, larger

        async def main():
            async with decoder.stream(count=2) as coding:

                async def feed():
                    for one in data([*packets, *others]):
                        await coding.feed_async(one)
                    coding.stop()

                feeding = asyncio.create_task(feed())
                wanted = iter((*given, *more))
                found = [codecs.differ(frame, next(wanted)) async for frame in coding]
                await feeding
                return found

        found = asyncio.run(main())
        assert len(found) == 5
        assert max(found) <= codecs.LOSS

    def test_two_threads_feed_and_take(self, decoder, coded):
        given, packets = coded
        with decoder.stream(count=1) as coding:

            def feed():
                for one in data(packets):
                    coding.feed(one)
                coding.stop()

            thread = threading.Thread(target=feed)
            thread.start()
            assert is_right(coding, given)
            thread.join()

    def test_one_loop_takes_what_comes_while_it_feeds(self, encoder):
        given = codecs.pictures(5, encoder.output.format())
        with encoder.stream(count=1) as coding:
            assert len([codecs.packet(frame) for frame in coding.process(given, LONG)]) == 5

    def test_both_at_once(self, encoder, decoder):
        given = codecs.pictures(3, encoder.output.format())
        with encoder.stream() as coding, decoder.stream() as decoding:
            packets = (codecs.packet(frame).data for frame in coding.process(given))
            assert is_right(decoding.process(packets), given)


class TestEnds:
    @pytest.mark.parametrize("fed", [False, True], ids=["before a picture", "amid pictures"])
    @pytest.mark.parametrize("close", ["stream", "device"])
    def test_of_a_thread_that_waits(self, coded, close, fed):
        with contextlib.ExitStack() as stack:
            decoder = stack.enter_context(v4l2.Decoder(v4l2.Decoder.find(codecs.CODED)))
            coding = stack.enter_context(decoder.stream())
            if fed:
                coding.feed(coded[1][0].data)
                coding.frame(LONG).leave()
            errors = []

            def take():
                try:
                    coding.frame(LONG)
                except ValueError as error:
                    errors.append(str(error))

            thread = threading.Thread(target=take)
            thread.start()
            (stack if close == "stream" else decoder).close()
            thread.join()
            assert "over" in errors[0] or "closed" in errors[0]

    @pytest.mark.parametrize("fed", [False, True], ids=["before a picture", "amid pictures"])
    def test_of_a_task_that_waits(self, decoder, coded, fed):
        async def main():
            async with decoder.stream() as coding:
                if fed:
                    await coding.feed_async(coded[1][0].data)
                    (await anext(coding)).leave()
                (task,) = await waiting(anext(coding))
                await coding.__aexit__(None, None, None)
                with pytest.raises(StopAsyncIteration):
                    await task

        asyncio.run(main())

    def test_of_a_thread_that_waits_for_what_was_none(self, decoder):
        errors = []
        with decoder.stream() as coding:

            def take():
                try:
                    coding.frame(LONG)
                except OSError as error:
                    errors.append(error.errno)

            thread = threading.Thread(target=take)
            thread.start()
            coding.feed(GARBAGE)
            coding.stop()
            thread.join()
        assert errors == [errno.EBADMSG]

    def test_of_a_task_that_waits_for_what_was_none(self, decoder):
        async def main():
            async with decoder.stream() as coding:
                (task,) = await waiting(anext(coding))
                await coding.feed_async(GARBAGE)
                coding.stop()
                with pytest.raises(OSError, match="has found no FWHT"):
                    await asyncio.wait_for(task, LONG)

        asyncio.run(main())

    def test_it_is_for_a_single_use(self, decoder):
        coding = decoder.stream()
        for use in (coding.stop, coding.take, coding.frame):
            with pytest.raises(ValueError, match="has not begun"):
                use()
        with coding:
            with pytest.raises(ValueError, match="used only once"):
                coding.__enter__()
            assert coding.take() is None
        with pytest.raises(ValueError, match=OVER):
            coding.frame()
        with pytest.raises(ValueError, match="used only once"):
            coding.__enter__()


class TestForks:
    def test_a_child_leaves_the_work_to_its_parent(self, encoder):
        given = codecs.pictures(2, encoder.output.format())
        with contextlib.ExitStack() as stack:
            coding = stack.enter_context(encoder.stream())
            coding.feed(given[0])

            def meddle():
                for use in (coding.stop, coding.take, lambda: coding.feed(given[1])):
                    with pytest.raises(ValueError, match="its parent's"):
                        use()
                stack.close()

            in_child(meddle)
            coding.feed(given[1])
            coding.stop()
            assert len([codecs.packet(frame) for frame in coding]) == 2

    def test_a_child_takes_no_change_of_its_parents_decoder(self, decoder, coded):
        given, packets = coded
        with decoder.stream() as coding:
            coding.feed(packets[0].data)
            in_child(lambda: coding.__exit__(None, None, None))
            coding.stop()
            assert is_right(coding, given[:1])


@pytest.mark.filterwarnings("ignore::ResourceWarning")
class TestSignals:
    """A handler that raises at each point of the work."""

    def test_nothing_is_left(self, coded):
        packet = coded[1][0].data
        before, failed = leaks.descriptors(), []
        path = v4l2.Decoder.find(codecs.CODED)

        def body():
            with v4l2.Decoder(path) as decoder, decoder.stream(count=1) as coding:
                coding.feed(packet)
                coding.stop()
                for frame in coding:
                    frame.leave()

        for moment in interrupt.every_point(step=11):
            moment.interrupts(body)
            if leaks.descriptors() != before:
                gc.collect()
            if leaks.descriptors() != before:
                failed.append(moment.where)
        assert not failed

    def test_stopping_that_was_interrupted_is_taken_up_again(self, encoder):
        for moment in interrupt.every_point():
            with encoder.stream(count=1) as coding:
                moment.interrupts(coding.stop)
                coding.stop()
                assert list(coding) == []

    def test_taking_that_was_interrupted_goes_on_to_the_end(self, decoder, coded):
        packets, failed = data(coded[1][:2]), []
        for moment in interrupt.every_point(step=13):
            with decoder.stream(count=2) as coding:
                for one in packets:
                    coding.feed(one)
                coding.stop()
                if (
                    frame := moment.interrupts(lambda coding=coding: coding.frame(LONG))
                ) is not None:
                    frame.leave()
                try:
                    while True:
                        coding.frame(LONG).leave()
                except BrokenPipeError:
                    continue
                except TimeoutError:
                    failed.append(moment.where)
        assert not failed

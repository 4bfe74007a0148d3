"""Events of V4L2 devices: who gets them, how a wait for one ends, and what is left of them."""

import asyncio
import contextlib
import gc
import select
import threading

import pytest
from helpers import cameras, interrupt, leaks
from helpers.process import in_child
from helpers.tasks import waiting
from test_v4l2_stream import LONG

from dmabuf.devices import v4l2
from dmabuf.devices.v4l2 import EventType
from dmabuf.devices.v4l2._events_ioctl import EventStruct

pytestmark = pytest.mark.needs("vivid")
CLOSED = "closed"


@pytest.fixture
def device(camera):
    """Give a camera, whose brightness is what it was in the end."""
    brightness = camera.device.get_control("brightness")
    yield camera.device
    camera.device.set_control("brightness", brightness)


@pytest.fixture
def events(device):
    """Give the events of its brightness."""
    with device.events("brightness") as events:
        yield events


def change(device):
    """Change the brightness, and return what it is."""
    return device.set_control("brightness", device.get_control("brightness") ^ 1)


def is_readable(events):
    return bool(select.select([events], [], [], 0)[0])


class TestControls:
    def test_a_change_is_told_with_its_value(self, device, events):
        value = change(device)
        event = events.next(LONG)
        assert event.type is EventType.CONTROL
        assert event.id == v4l2.ControlId.BRIGHTNESS
        assert event.value == value
        assert v4l2.ControlChange(event.changes) is v4l2.ControlChange.VALUE
        assert event.timestamp > 0

    def test_a_change_by_another_program_is_told(self, device, events):
        with v4l2.Device(device.path) as other:
            value = change(other)
        assert events.next(LONG).value == value

    def test_the_latest_of_several_changes_is_told(self, device, events):
        change(device)
        value = change(device)
        assert events.next(LONG).value == value
        assert events.take() is None

    def test_what_was_not_asked_for_is_not_told(self, device, events):
        contrast = device.get_control("contrast")
        device.set_control("contrast", contrast ^ 1)
        device.set_control("contrast", contrast)
        assert events.take() is None

    def test_flags_that_change_are_told(self, device):
        automatic = device.get_control("gain_automatic")
        with device.events("gain") as events:
            device.set_control("gain_automatic", not automatic)
            assert v4l2.ControlChange.FLAGS in v4l2.ControlChange(events.next(LONG).changes)
            device.set_control("gain_automatic", automatic)

    def test_a_control_that_is_not_there_is_named(self, device):
        with pytest.raises(KeyError, match="has no control 'sharpness of mind'"):
            device.events("sharpness of mind")

    def test_a_kind_that_the_device_has_not_is_refused(self, device):
        with pytest.raises(OSError, match="can't subscribe to its events"):
            device.events(EventType.MOTION)


class TestAll:
    def test_without_a_choice_all_that_the_device_has_come(self, device):
        with device.events() as events:
            value = change(device)
            found = events.next(LONG)
            assert (found.id, found.value) == (v4l2.ControlId.BRIGHTNESS, value)
            assert {kind for kind, _ in events._reader._listeners[events._listener]} == {
                EventType.CONTROL,
                EventType.SOURCE_CHANGE,
            }


class TestListeners:
    def test_each_gets_each_event(self, device, events):
        with device.events("brightness") as others, device.events("contrast") as none:
            value = change(device)
            assert events.next(LONG).value == others.next(LONG).value == value
            assert none.take() is None

    def test_one_that_is_closed_leaves_the_others_theirs(self, device, events):
        with device.events("brightness"):
            pass
        value = change(device)
        assert events.next(LONG).value == value

    def test_one_that_is_closed_is_unsubscribed(self, device):
        with device.events("brightness"):
            pass
        with device.events("contrast"):
            change(device)
            with v4l2._file.Use(device, "look") as fd:
                assert not EventStruct().take(fd)

    def test_the_descriptor_is_readable_once_there_is_an_event(self, device, events):
        assert not is_readable(events)
        change(device)
        assert is_readable(events)
        events.next(LONG)
        assert events.take() is None
        assert not is_readable(events)

    def test_what_another_has_read_makes_it_readable(self, device, events):
        with device.events("brightness") as others:
            change(device)
            others.next(LONG)
            assert is_readable(events)
            events.next(LONG)


class TestWaiting:
    def test_a_time_out_is_an_error(self, device, events):
        with pytest.raises(TimeoutError, match=f"no event from {device.path} within 0.01 s"):
            events.next(0.01)

    def test_a_thread_waits_until_it_comes(self, device, events):
        found = []
        thread = threading.Thread(target=lambda: found.append(next(events)))
        thread.start()
        value = change(device)
        thread.join()
        assert found[0].value == value

    @pytest.mark.parametrize("close", ["events", "device"])
    def test_closing_ends_the_wait_of_a_thread(self, device, close):
        opened = v4l2.Device(device.path)
        events = opened.events("brightness")
        errors, begun = [], threading.Event()

        def wait():
            begun.set()
            try:
                events.next(LONG)
            except ValueError as error:
                errors.append(str(error))

        thread = threading.Thread(target=wait)
        thread.start()
        begun.wait()
        (events if close == "events" else opened).close()
        thread.join()
        assert CLOSED in errors[0]
        events.close()
        opened.close()

    def test_tasks_wait_until_it_comes(self, device, events):
        async def main():
            (task,) = await waiting(anext(events))
            value = change(device)
            assert (await task).value == value

        asyncio.run(main())

    @pytest.mark.parametrize("close", ["events", "device"])
    def test_closing_ends_the_wait_of_a_task(self, device, close):
        async def main():
            with v4l2.Device(device.path) as opened, opened.events("brightness") as events:
                (task,) = await waiting(anext(events))
                (events if close == "events" else opened).close()
                with pytest.raises(ValueError, match=CLOSED):
                    await task

        asyncio.run(main())

    @pytest.mark.needs("own machine", "root")
    def test_unplugging_ends_it(self):
        with (
            v4l2.Device(cameras.find("vivid")) as device,
            device.events("brightness") as events,
            cameras.unplugged(),
            pytest.raises(OSError, match="the device has gone"),
        ):
            events.next(LONG)


class TestSources:
    def test_a_new_signal_is_told(self):
        with (
            cameras.loop() as (output, camera),
            camera.device.events(EventType.SOURCE_CHANGE) as on,
        ):
            output.set_format("R8", 720, 480)
            event = on.next(LONG)
            assert (event.type, event.changes) == (EventType.SOURCE_CHANGE, 1)


class TestEnds:
    def test_closed_events_say_so(self, events):
        events.close()
        events.close()
        with pytest.raises(ValueError, match=CLOSED):
            events.next()
        assert repr(events).endswith("[closed]>")

    def test_a_closed_device_has_none(self, device):
        opened = v4l2.Device(device.path)
        opened.close()
        with pytest.raises(ValueError, match=CLOSED):
            opened.events("brightness")

    def test_what_is_collected_is_closed_and_told(self, device):
        events = [device.events("brightness")]
        with pytest.warns(ResourceWarning, match="unclosed Events"):
            events.clear()
        assert not device._event_reader._listeners

    def test_a_child_takes_no_event_of_its_parent(self, device, events):
        change(device)

        def take():
            with pytest.raises(ValueError, match=r"forked child, and the events .* parent's"):
                events.next(LONG)
            events.close()

        in_child(take)
        events.next(LONG)
        change(device)
        events.next(LONG)

    @pytest.mark.filterwarnings("ignore::ResourceWarning")
    def test_a_signal_handler_that_raises_leaves_nothing(self, device):
        before, failed = leaks.descriptors(), []

        def body():
            with device.events("brightness") as events:
                change(device)
                events.next(LONG)

        for moment in interrupt.every_point():
            with (
                contextlib.suppress(interrupt.Interrupted),
                moment.runs(interrupt.raise_interrupted),
            ):
                body()
            if leaks.descriptors() != before or device._event_reader._listeners:
                gc.collect()
            if leaks.descriptors() != before or device._event_reader._listeners:
                failed.append(moment.where)
        assert not failed

    def test_a_signal_handler_that_raises_loses_no_event(self, device, events):
        failed = []
        for moment in interrupt.every_point():
            value = change(device)
            found = moment.interrupts(lambda: events.next(LONG))
            if found is None:
                found = events.take()
            returned = moment.where.endswith("popleft")  # then it is the caller's
            if not returned and (found is None or found.value != value):
                failed.append(moment.where)
        assert not failed

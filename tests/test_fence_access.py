"""Accesses that wait for fences, in threads and processes, and what becomes of a busy buffer."""

import socket
import threading

import pytest
from helpers.fences import (
    IOCTL,
    POLL,
    Stop,
    handled,
    interrupt,
    is_open,
    join_threads,
    once_asleep,
    sleeps,
    stop,
)
from helpers.process import Child, in_child

import dmabuf
from dmabuf import Access

READ, WRITE = Access.READ, Access.WRITE
ALL = (READ, WRITE, Access.READ_WRITE)


@pytest.mark.needs("vgem")
class TestAccessThatWaits:
    """`once_asleep` acts in another thread, so that thread has the GIL while the access waits."""

    def test_goes_on_once_the_fence_signals(self, buffer, device, gem):
        for access in ALL:
            fence = device.attach_fence(gem, WRITE)
            with once_asleep(IOCTL, fence.signal):
                buffer.begin_access(access)
            buffer.end_access(access)

    def test_a_handler_that_raises_gets_out_and_nothing_is_begun(self, buffer, device, gem):
        fence = device.attach_fence(gem, WRITE)
        assert sleeps(lambda: buffer.begin_access(READ))
        with pytest.raises(ValueError, match="no access"):
            buffer.end_access(READ)
        scope = buffer.read_write()
        assert sleeps(scope.__enter__)
        fence.signal()
        number = buffer.detach()  # no hold was left behind
        with dmabuf.Buffer(number), pytest.raises(ValueError, match="not open"):
            scope.__exit__(None, None, None)

    def test_a_handler_that_returns_does_not_end_it(self, buffer, device, gem):
        fence = device.attach_fence(gem, WRITE)
        calls = []

        def handler() -> None:
            calls.append(buffer.is_idle(READ))
            if len(calls) == 3:
                fence.signal()

        def again() -> bool | None:
            if len(calls) < 3:
                interrupt()
                return True
            return None

        with handled(handler), once_asleep(IOCTL, again), buffer.read() as memory:
            assert memory.nbytes == buffer.size
        assert calls[:3] == [False] * 3

    def test_an_end_never_waits(self, buffer, device, gem):
        for access in ALL:
            buffer.begin_access(access)
        device.attach_fence(gem, WRITE)
        for access in ALL:
            assert not sleeps(lambda access=access: buffer.end_access(access))

    def test_close_in_another_thread_lets_it_go_on(self, buffer, device, gem):
        fence = device.attach_fence(gem, WRITE)
        other = buffer.dup()
        number = other.fileno()

        def close_and_signal() -> None:
            other.close()
            assert is_open(number)
            with pytest.raises(ValueError, match="closed"):
                other.begin_access(READ)
            fence.signal()

        with once_asleep(IOCTL, close_and_signal):
            other.begin_access(WRITE)
        assert other.closed
        assert is_open(number)  # for the end
        other.end_access(WRITE)
        assert not is_open(number)

    def test_close_and_a_handler_that_raises_give_the_number_back(self, buffer, device, gem):
        device.attach_fence(gem, WRITE)
        other = buffer.dup()
        number = other.fileno()

        def close_and_interrupt() -> None:
            other.close()
            interrupt()

        with handled(stop), pytest.raises(Stop), once_asleep(IOCTL, close_and_interrupt):
            other.begin_access(WRITE)
        device.close()
        join_threads()
        assert not is_open(number)

    def test_a_poll_that_waits_goes_on_after_close(self, buffer, device, gem):
        fence = device.attach_fence(gem, READ)
        other = buffer.dup()
        number = other.fileno()

        def close_and_signal() -> None:
            other.close()
            assert is_open(number)
            fence.signal()

        with once_asleep(POLL, close_and_signal):
            assert other.wait(WRITE)
        assert not is_open(number)

    def test_threads_take_turns_with_the_device(self, buffer, device, gem):
        """A frame is read by as many threads as there are, once the device has written it."""
        for frame in range(5):
            fence = device.attach_fence(gem, WRITE)
            seen = []

            def read(seen=seen) -> None:
                with buffer.read() as memory:
                    seen.append(memory[0])

            threads = [threading.Thread(target=read) for _ in range(4)]
            for thread in threads:
                thread.start()
            buffer.memory[0] = frame  # as the device does
            fence.signal()
            for thread in threads:
                thread.join()
            assert seen == [frame] * 4


@pytest.mark.needs("vgem")
class TestProcesses:
    def test_a_buffer_is_busy_in_every_process(self, buffer, device, gem):
        fence = device.attach_fence(gem, WRITE)

        ours, theirs = socket.socketpair()
        with ours, theirs:

            def wait_in_child() -> None:
                assert not buffer.is_idle(READ)
                theirs.send(b"x")
                assert buffer.wait(READ)
                with buffer.read():
                    pass

            child = Child(wait_in_child)
            ours.recv(1)
            fence.signal()
            child.result()

    @pytest.mark.needs("export")
    def test_a_fence_goes_with_its_buffer(self, buffer, device, gem, allocate):
        """A producer sends a frame that is not done, with the fence that says when it is."""
        attached = device.attach_fence(gem, WRITE)
        left, right = socket.socketpair()
        with left, right:
            with buffer.export_fence(READ) as fence:
                socket.send_fds(left, [b"x"], [buffer.fileno(), fence.fileno()])

            def consume() -> tuple[int, bool, bool]:
                _, numbers, _, _ = socket.recv_fds(right, 1, 2)
                with dmabuf.Buffer(numbers[0]) as frame, dmabuf.Fence(numbers[1]) as ready:
                    early = ready.signaled
                    attached.signal()
                    return frame.inode, early, ready.wait(5)

            assert in_child(consume) == (buffer.inode, False, True)

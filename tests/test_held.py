"""A hold for one call: as a `Hold`, and nothing of it is left wherever a signal handler comes."""

import contextlib
import errno

import pytest
from helpers import interrupt
from test_fd import File, file, refers

from dmabuf._fd import Hold, held, held_all

__all__ = ["file"]


def is_held(owner: File) -> bool:
    """Whether a detach is refused since somebody holds the number."""
    return bool(owner._holds)


def test_a_call_gets_the_number_and_its_result_comes_back(file):
    assert held(file, lambda *given: given, "more") == (file.fileno(), "more")
    assert not is_held(file)


def test_a_number_that_is_closed_amid_the_call_is_given_back_after_it(file):
    def close(number):
        file.close()
        return refers(number, file.inode)

    assert held(file, close)
    assert file.given_back


def test_a_detach_amid_the_call_is_refused(file):
    with pytest.raises(OSError, match="is in use") as caught:
        held(file, lambda _: file.detach())
    assert caught.value.errno == errno.EBUSY
    assert not file.closed
    assert not is_held(file)


def test_a_call_that_raises_leaves_no_hold(file):
    with pytest.raises(ValueError, match="invalid literal"):
        held(file, lambda _: int("test"))
    assert not is_held(file)


def test_a_closed_owner_is_refused_and_the_call_is_not_made(file):
    file.close()
    for other in (held, lambda owner, call: held_all([owner], call)):
        with pytest.raises(ValueError, match="operation on a closed File"):
            other(file, pytest.fail)


def test_several_are_held_in_their_order_by_one_call():
    with File() as first, File() as second, File() as third:
        files = [first, second, third]

        def look(numbers, more):
            assert all(map(is_held, files))
            return numbers, more

        assert held_all(files, look, "more") == ([one.fileno() for one in files], "more")
        assert not any(map(is_held, files))


def test_of_several_a_closed_one_is_refused_and_none_stays_held():
    with File() as first, File() as second:
        second.close()
        with pytest.raises(ValueError, match="operation on a closed File"):
            held_all([first, second], pytest.fail)
        assert not is_held(first)


class TestSignals:
    """A handler comes at each point of the code, one after the other."""

    def test_a_handler_that_raises_leaves_no_hold(self):
        for moment in interrupt.every_point():
            with File() as first, File() as second:
                moment.interrupts(lambda: held_all([first, second], tuple))
                assert not is_held(first), moment.where
                assert not is_held(second), moment.where

    def test_a_handler_that_closes_has_the_number_given_back_once(self):
        for moment in interrupt.every_point():
            file = File()
            with contextlib.suppress(ValueError), moment.runs(file.close):
                held(file, lambda number: refers(number, file.inode))  # noqa: B023
            assert file.closed == file.given_back == moment.reached, moment.where
            file.close()
            assert file.given_back, moment.where

    def test_a_handler_that_holds_amid_a_call_drops_its_own(self, file):
        for moment in interrupt.every_point():
            with Hold(file), moment.runs(lambda: held(file, str)):
                held(file, str)
                assert len(file._holds) == 1, moment.where
        assert not is_held(file)

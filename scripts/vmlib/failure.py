"""What keeps the command's own exit status from being known, and the status that says so."""

import signal
from types import FrameType

TIMED_OUT = 124
NOT_SET_UP = 125
GUEST_DIED = 126


class Failure(Exception):
    """The machine could not be set up, or ended in another way, told by ``status``."""

    def __init__(self, message: str, status: int = NOT_SET_UP) -> None:
        super().__init__(message)
        self.status = status


class Interrupted(BaseException):
    """A signal asks us to end; raised wherever we are, so that all scopes clean up."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def catch_signals() -> None:
    """From now on, signals that end a program raise ``Interrupted``, once."""
    numbers = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)

    def interrupt(number: int, _frame: FrameType | None) -> None:
        for each in numbers:
            signal.signal(each, signal.SIG_IGN)
        raise Interrupted(number)

    for each in numbers:
        signal.signal(each, interrupt)

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


class QemuFailed(Failure):
    """QEMU ended with an error of its own before the guest had booted."""


class Interrupted(BaseException):
    """A signal asks us to end; raised wherever we are, so that all scopes clean up."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def catch_signals() -> None:
    """From now on, signals that end a program raise ``Interrupted``, once."""
    asked = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
    # nohup, for one, starts programs that are to go on.
    numbers = [number for number in asked if signal.getsignal(number) != signal.SIG_IGN]

    def interrupt(number: int, _frame: FrameType | None) -> None:
        for each in numbers:
            signal.signal(each, signal.SIG_IGN)
        raise Interrupted(number)

    for each in numbers:
        signal.signal(each, interrupt)

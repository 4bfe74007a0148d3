"""How a command fails: with an exit status and one line that says why."""

from __future__ import annotations

from errno import errorcode

from dmabuf.errors import message_of

FAILED, WRONG_USAGE, INTERRUPTED = 1, 2, 130


class Asked(Exception):
    """The user asks for a text, the help or the version, and not for work."""

    def __init__(self, text: str, document: dict[str, object] | None = None) -> None:
        """`document` is what the JSON has in place of the text; a help has none."""
        super().__init__(text)
        self.document = document


class Answered(Exception):
    """The work is done and its answer is given; the exit status is a part of it."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Failure(Exception):
    """The command could not do what it was asked to."""

    status = FAILED

    def __init__(
        self, message: str, number: int | None = None, document: dict[str, object] | None = None
    ) -> None:
        """`number` is the errno behind it, `document` what the JSON has beside the error."""
        super().__init__(message)
        self.errno = errorcode.get(number or 0)
        self.document = document or {}


class UsageError(Failure):
    """The command line makes no sense."""

    status = WRONG_USAGE


def one_line(error: OSError) -> str:
    """Return an error's message without its errno; a list of exporters behind semicolons."""
    head, *rest = (line.strip() for line in message_of(error).splitlines())
    return f"{head} {'; '.join(rest)}" if rest else head

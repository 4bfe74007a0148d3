"""The program `dmabuf-alloc`, before the package is imported.

Nothing can be caught while a module is imported whose import is what goes on. So Ctrl-C ends that
as it ends a program of C: by the signal, without a word.
"""

import signal


def main() -> int:
    """Import the command, and run it."""
    handler = signal.getsignal(signal.SIGINT)
    if handler is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from dmabuf.cli import main

    signal.signal(signal.SIGINT, handler)
    return main()

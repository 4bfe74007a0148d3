"""The lock of what several threads use.

Re-entrant, since a signal handler or a finalizer may come amid what it guards.
"""

from __future__ import annotations

import sys

if sys.version_info[:2] == (3, 14):
    from _thread import RLock
    from itertools import starmap

    class Lock(RLock):
        """A re-entrant lock for `with`, which a signal handler that raises leaves to others.

        Python 3.14 runs handlers between `__enter__` and the block, which then has no `__exit__`
        (gh-148874 of CPython), but not where `__enter__` is itself written in Python.
        """

        __slots__ = ()

        def __enter__(self) -> bool:
            taken: list[bool] = []
            try:
                taken.extend(starmap(self.acquire, ((),)))
                return True
            except BaseException:
                if taken:
                    self.release()
                raise

else:
    from threading import RLock as Lock

__all__ = ["Lock"]

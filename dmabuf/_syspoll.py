"""poll(2) and epoll(7), also where a library of green threads has taken them out of `select`.

eventlet's monkey patch does, whether it comes before this import or after. What it replaces by one
of its own, as gevent does, is used: that one lets the other green threads run.
"""

from __future__ import annotations

import select
from typing import Any


def _original(name: str) -> Any:
    found = getattr(select, name, None)
    if found is None:
        from importlib.util import module_from_spec

        spec: Any = select.__spec__
        module = module_from_spec(spec)
        spec.loader.exec_module(module)
        found = getattr(module, name)
    return found


_poll, _epoll = _original("poll"), _original("epoll")


def poll() -> select.poll:
    """Return a new poll object."""
    made: select.poll = getattr(select, "poll", _poll)()
    return made


def epoll() -> select.epoll:
    """Return a new epoll object."""
    made: select.epoll = getattr(select, "epoll", _epoll)()
    return made

"""What has a close() is made once: made anew, it would lose what it has."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import dmabuf
from dmabuf.interop.gstreamer import Sink, Source
from dmabuf.share import Publisher, Subscriber

SERVED_BY: dict[type, Callable[[str], Any]] = {Subscriber: Publisher, Source: Sink}


@pytest.mark.parametrize("kind", [dmabuf.Pool, Publisher, Subscriber, Sink, Source])
def test_an_object_is_made_once(
    tmp_path: Path, allocate: Callable[..., dmabuf.Buffer], kind: type
) -> None:
    path = str(tmp_path / "s")
    of_pool = {"count": 1, "size": 4096, "allocate": allocate}
    terms: dict[str, Any] = of_pool if kind is dmabuf.Pool else {"where": path}
    with contextlib.ExitStack() as stack:
        if kind in SERVED_BY:
            stack.enter_context(SERVED_BY[kind](path))
        made = stack.enter_context(kind(**terms))
        for _ in range(2):
            with pytest.raises(TypeError, match=f"a {kind.__name__} can be initialised only once"):
                made.__init__(**terms)
            made.close()

"""GStreamer's pipelines in processes of their own, with few plugins: to scan all takes a minute."""

from __future__ import annotations

import contextlib
import glob
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PLUGINS = "/usr/lib/*/gstreamer-1.0"
_WANTED = ("app", "coreelements", "unixfd", "video4linux2", "videotestsrc")
_PEER = Path(__file__).parent / "unixfd_peer.py"
_PYTHON = "/usr/bin/python3"  # the one that has GStreamer's modules


def has_unixfd() -> bool:
    """Whether GStreamer is here, from 1.24 on, with its unixfd plugin."""
    return bool(glob.glob(f"{PLUGINS}/libgstunixfd.so"))


class Pipelines:
    """What starts pipelines; `folder` keeps their sockets and GStreamer's registry."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        plugins = folder / "plugins"
        plugins.mkdir()
        for name in _WANTED:
            (file,) = glob.glob(f"{PLUGINS}/libgst{name}.so")
            (plugins / Path(file).name).symlink_to(file)
        self._environment = os.environ | {
            "GST_PLUGIN_SYSTEM_PATH_1_0": str(plugins),
            "GST_REGISTRY": str(folder / "registry"),
            "GST_REGISTRY_FORK": "no",
        }

    @contextlib.contextmanager
    def launch(self, *words: str) -> Iterator[subprocess.Popen[str]]:
        """Run a pipeline as gst-launch-1.0 takes it, until the block ends."""
        with self._run("gst-launch-1.0", "-q", *words) as process:
            yield process

    @contextlib.contextmanager
    def peer(self, *words: str) -> Iterator[subprocess.Popen[str]]:
        """Run tests/helpers/unixfd_peer.py until the block ends."""
        with self._run(_PYTHON, str(_PEER), *words) as process:
            yield process

    @contextlib.contextmanager
    def _run(self, *words: str) -> Iterator[subprocess.Popen[str]]:
        process = subprocess.Popen(
            words, env=self._environment, stdout=subprocess.PIPE, stderr=sys.stderr, text=True
        )
        with process:
            try:
                yield process
            finally:
                process.kill()

    def formats(self, names: list[str]) -> dict[str, list[object]]:
        """Return what GStreamer says of formats."""
        with self.peer("formats", *names) as process:
            return json.loads(process.stdout.read())


def samples(process: subprocess.Popen[str]) -> list[dict[str, Any]]:
    """Return what a peer has printed of each buffer, up to the end of the stream."""
    lines = process.stdout.read().splitlines()
    assert lines[-1:] == ["end"], lines
    return [json.loads(line) for line in lines[:-1]]

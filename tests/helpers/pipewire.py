"""PipeWire with a camera, and without a session manager: who takes the camera is told here."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

_SECONDS = 60.0  # emulated, GStreamer and PipeWire begin slowly
_CAMERA = "camera:capture_1"

_CONFIGURATION = """
context.properties = {{ core.daemon = true  core.name = pipewire-0 }}
context.spa-libs = {{ api.v4l2.* = v4l2/libspa-v4l2  support.* = support/libspa-support }}
context.modules = [
    {{ name = libpipewire-module-protocol-native }}
    {{ name = libpipewire-module-metadata }}
    {{ name = libpipewire-module-spa-node-factory }}
    {{ name = libpipewire-module-client-node }}
    {{ name = libpipewire-module-access }}
    {{ name = libpipewire-module-link-factory }}
]
context.objects = [ {{
    factory = spa-node-factory
    args = {{
        factory.name = api.v4l2.source  node.name = camera
        media.class = Video/Source  api.v4l2.path = "{node}"
    }}
}} ]
"""


@contextlib.contextmanager
def pipewire(folder: Path, node: str, client: str) -> Iterator[None]:
    """Have this process' clients find a PipeWire, which links the camera to the client's node."""
    configuration = folder / "pipewire.conf"
    configuration.write_text(_CONFIGURATION.format(node=node))
    before = os.environ.get("XDG_RUNTIME_DIR")
    os.environ["XDG_RUNTIME_DIR"] = str(folder)
    with contextlib.ExitStack() as stack:
        stack.callback(_restore, before)
        log = stack.enter_context((folder / "log").open("w"))
        words = ("pipewire", "-c", str(configuration))
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        stack.callback(process.wait)
        stack.callback(process.kill)
        _until(lambda: _CAMERA in _told("--output"))
        linking = threading.Thread(target=_link, args=(client,))  # for the client's start waits
        linking.start()
        stack.callback(linking.join)
        yield


def _link(client: str) -> None:
    """Link the camera to a client's node, once that is there."""
    taker = f"{client}:input_1"
    _until(lambda: taker in _told("--input"))
    subprocess.run(("pw-link", _CAMERA, taker), check=True)


def _told(what: str) -> list[str]:
    """Return the names of all ports of a direction."""
    answer = subprocess.run(("pw-link", what), capture_output=True, text=True)
    return answer.stdout.splitlines()


def _until(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + _SECONDS
    while not is_so():
        assert time.monotonic() < end, "PipeWire doesn't have what it should"
        time.sleep(0.2)


def _restore(folder: str | None) -> None:
    if folder is None:
        del os.environ["XDG_RUNTIME_DIR"]
    else:
        os.environ["XDG_RUNTIME_DIR"] = folder

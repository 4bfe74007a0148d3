"""What a compositor offers, and the opcodes of what is used of it.

From Wayland's protocol files: wayland.xml, xdg-shell.xml, linux-dmabuf-v1.xml,
linux-explicit-synchronization-unstable-v1.xml and linux-drm-syncobj-v1.xml.
"""

from __future__ import annotations

import errno

from dmabuf.errors import UnsupportedError
from dmabuf.interop.wayland._client import DISPLAY, Client, Events

DISPLAY_GET_REGISTRY = 1
REGISTRY_BIND = 0
COMPOSITOR_CREATE_SURFACE = 0
SURFACE_ATTACH, SURFACE_FRAME, SURFACE_COMMIT, SURFACE_DAMAGE_BUFFER = 1, 3, 6, 9
BUFFER_DESTROY = 0
SHELL_GET_XDG_SURFACE, SHELL_PONG = 2, 3
XDG_SURFACE_GET_TOPLEVEL, XDG_SURFACE_ACK_CONFIGURE = 1, 4
TOPLEVEL_SET_TITLE, TOPLEVEL_SET_APP_ID = 2, 3
DMABUF_CREATE_PARAMS, DMABUF_GET_DEFAULT_FEEDBACK = 1, 2
FEEDBACK_DESTROY = 0
PARAMS_DESTROY, PARAMS_ADD, PARAMS_CREATE = 0, 1, 2
SYNC_GET_SYNCHRONIZATION = 1
SURFACE_SYNC_SET_ACQUIRE_FENCE, SURFACE_SYNC_GET_RELEASE = 1, 2
SYNCOBJ_GET_SURFACE, SYNCOBJ_IMPORT_TIMELINE = 1, 2
POINTS_SET_ACQUIRE, POINTS_SET_RELEASE = 1, 2
TIMELINE_DESTROY = 0

COMPOSITOR, SHELL = "wl_compositor", "xdg_wm_base"
DMABUF, SYNC = "zwp_linux_dmabuf_v1", "zwp_linux_explicit_synchronization_v1"
SYNCOBJ = "wp_linux_drm_syncobj_manager_v1"
_VERSIONS = {
    COMPOSITOR: (4, 4),  # damage_buffer
    SHELL: (1, 1),
    DMABUF: (3, 4),  # modifiers, feedback
    SYNC: (1, 2),
    SYNCOBJ: (1, 1),
}
"""The least and the highest version of each that is used."""


class Globals:
    """What a compositor has announced."""

    def __init__(self, client: Client, timeout: float | None) -> None:
        self._client = client
        self._found: dict[str, tuple[int, int]] = {}
        events: Events = {0: ("usu", self._note_global), 1: ("u", None)}
        self._registry = client.new(events)
        client.send(DISPLAY, DISPLAY_GET_REGISTRY, self._registry)
        client.round_trip("to tell what it offers", timeout)

    def _note_global(self, number: int, interface: str, version: int) -> None:
        if interface in _VERSIONS:
            self._found[interface] = number, version

    def version(self, interface: str) -> int:
        """Return the version of an interface that is used, 0 if there is none."""
        least, highest = _VERSIONS[interface]
        version = self._found.get(interface, (0, 0))[1]
        return 0 if version < least else min(version, highest)

    def bind(self, interface: str, events: Events) -> int:
        """Return the object of an interface; UnsupportedError if the compositor lacks it."""
        version = self.version(interface)
        if not version:
            raise UnsupportedError(
                errno.EOPNOTSUPP,
                f"the Wayland compositor has no {interface} of version {_VERSIONS[interface][0]}"
                " or later; use one that imports dma-bufs, such as weston, sway, GNOME or KDE",
            )
        number = self._client.new(events)
        name = self._found[interface][0]
        self._client.send(self._registry, REGISTRY_BIND, name, interface, version, number)
        return number

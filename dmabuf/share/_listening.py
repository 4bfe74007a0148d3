"""A publisher's listening socket: its path, its mode, and the lock by which a stale one is told.

Beside a path stands PATH.lock while it is served: who has the lock owns the path. A socket that
nobody has the lock of, and that refuses connections, was left by a publisher that died.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
import time
from collections.abc import Callable
from functools import partial
from operator import itemgetter, methodcaller

from dmabuf._checked import whole
from dmabuf._fd import Descriptor
from dmabuf._owning import duplicate, own_result
from dmabuf.errors import os_error

_BACKLOG = 4096  # the kernel takes less: /proc/sys/net/core/somaxconn
_LOCK_SECONDS = 1.0  # a dying process's lock outlives the end that its peers see
_LOCK_STEP = 0.02
_LONGEST_PATH = 107  # sun_path of sockaddr_un(7), less the NUL

_UNKNOWN = -1, -1  # device and inode of a path that is not made yet

Where = str | os.PathLike[str]


def address(where: Where) -> str | bytes:
    """Return a path, or an abstract name given as "@name", as bind(2) and connect(2) take it."""
    path = os.fspath(where)
    if not isinstance(path, str):
        raise TypeError(f"where must be a path or '@name', not {type(where).__name__}")
    if not path or path == "@" or "\0" in path:
        raise ValueError(f"where must be a path or '@name', not {path!r}")
    encoded = os.fsencode(path)
    if len(encoded) > _LONGEST_PATH:
        what = (
            f"a socket's path may have at most {_LONGEST_PATH} bytes, not {len(encoded)}: {path!r}"
        )
        raise ValueError(what)
    return b"\0" + encoded[1:] if path.startswith("@") else path


def what_is_no_socket(where: Where) -> str | None:
    """Return what stands at a path that is no socket's; None for a socket, or nothing."""
    try:
        mode = os.stat(where).st_mode
    except (OSError, ValueError):
        return None
    if stat.S_ISSOCK(mode):
        return None
    if stat.S_ISDIR(mode):
        return "a directory"
    return "a file" if stat.S_ISREG(mode) else "a device or a pipe"


class Listener:
    """A listening socket, and what stands in the file system for it."""

    __slots__ = ("_lock", "_made", "_path", "name", "sock")

    def __init__(
        self, where: Where | socket.socket, mode: int, kind: int = socket.SOCK_SEQPACKET
    ) -> None:
        self._lock: Descriptor | None = None
        self._path: str | None = None
        self._made = _UNKNOWN
        target = None
        if isinstance(where, socket.socket):
            _check_listening(where, kind)
            self.name = str(where.getsockname())
            self.sock = _own_socket(kind, partial(duplicate, where.fileno()))
        else:
            self.name = os.fspath(where)
            target = address(where)
            self.sock = socket.socket(socket.AF_UNIX, kind)
        try:
            if target is not None:
                if isinstance(target, str):
                    self._bind_path(target, mode)
                else:
                    self._bind_abstract(target)
                self.sock.listen(_BACKLOG)
            self.sock.setblocking(False)
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        except BaseException:
            self.close()
            raise

    def _bind_abstract(self, target: bytes) -> None:
        try:
            self.sock.bind(target)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            raise _in_use(self.name) from None

    def _bind_path(self, path: str, mode: int) -> None:
        mode = whole(mode, "mode")
        if not 0 <= mode <= 0o777:
            raise ValueError(f"mode must be 0 to 0o777, not {mode:#o}")
        self._lock = _locked(f"{path}.lock", path)
        self._path = path
        _remove_stale(path)
        # The path gets the socket's own mode, less the umask; nobody connects before listen().
        os.fchmod(self.sock.fileno(), mode)
        self.sock.bind(path)
        made = os.lstat(path)
        self._made = made.st_dev, made.st_ino
        if stat.S_IMODE(made.st_mode) != mode:
            os.chmod(path, mode)

    def accept(self) -> socket.socket | None:
        """Return the next connection, None if there is none now. OSError (EMFILE) if it can't be.

        Which connection it was, of those that have gone already, isn't told.
        """
        while True:
            try:
                sock = _own_socket(self.sock.type, partial(_accept, self.sock))
            except BlockingIOError:
                return None
            except ConnectionAbortedError:
                continue
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            return sock

    def close(self) -> None:
        """Remove the path, close the socket, and give the lock away."""
        try:
            if self._path is not None and self._is_ours(self._path):
                os.unlink(self._path)
            self._path = None
        finally:
            self.sock.close()
            if self._lock is not None:
                try:
                    if not self._lock.closed:
                        os.unlink(f"{self.name}.lock")
                except FileNotFoundError:
                    pass
                finally:
                    self._lock.close()

    def _is_ours(self, path: str) -> bool:
        """Whether it is this listener's socket that stands at a path now."""
        if self._made == _UNKNOWN:  # a signal handler came before it was noted: ask the socket
            return self.sock.fileno() >= 0 and self.sock.getsockname() == path
        return self._made == _file(path)

    def leave(self) -> None:
        """Close this child's copies; path and lock are the parent's."""
        self._path = None
        self.sock.close()
        if self._lock is not None:
            self._lock.close()

    def __del__(self) -> None:
        # A signal handler that raises kept it from whoever would have closed it.
        if getattr(self, "_path", None) is not None:
            self.close()


def _own_socket(kind: int, make: Callable[[list[int]], object]) -> socket.socket:
    """Return a socket of the descriptor that `make` adds to a list; closed where anything raises.

    `socket.accept` and `socket.dup` lose one where a signal handler raises in them.
    """
    made: list[int] = []
    sock = socket.socket.__new__(socket.socket)
    try:
        make(made)
        socket.socket.__init__(sock, socket.AF_UNIX, kind, 0, made[0])
        return sock
    except BaseException:
        if sock.fileno() >= 0:
            socket.SocketType.close(sock)
        elif made:
            os.close(made[0])
        raise


def _accept(listener: socket.socket, made: list[int]) -> None:
    """Add the descriptor of the next connection to a list, by C alone."""
    made.extend(map(itemgetter(0), map(methodcaller("_accept"), (listener,))))


def _check_listening(sock: socket.socket, kind: int) -> None:
    if sock.family != socket.AF_UNIX or sock.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE) != kind:
        wanted = socket.SocketKind(kind).name
        raise ValueError(f"the socket must be a Unix socket of {wanted}, not {sock!r}")
    if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        raise ValueError(f"the socket doesn't listen: call listen() first: {sock!r}")


def _locked(path: str, served: str) -> Descriptor:
    """Return the lock, tried for a moment; OSError (EADDRINUSE) if somebody keeps it."""
    deadline = time.monotonic() + _LOCK_SECONDS
    while True:
        lock = _opened_lock(path, served)
        try:
            fcntl.flock(lock.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
            status = os.fstat(lock.fileno())
            if (status.st_dev, status.st_ino) == _file(path):
                return lock
            lock.close()  # its owner removed it just now
            continue
        except BlockingIOError:
            lock.close()
        except BaseException:
            lock.close()
            raise
        if time.monotonic() >= deadline:
            raise _in_use(served)
        time.sleep(_LOCK_STEP)


def _opened_lock(path: str, served: str) -> Descriptor:
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        lock = own_result(os.open, path, flags, 0o600)
    except OSError as error:
        raise _cannot_be_made(served, error) from None
    status = os.fstat(lock.fileno())
    if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
        lock.close()
        what = f"{path} is not a file of this user (uid {os.geteuid()}); use another path"
        raise os_error(errno.EPERM, what)
    return lock


def _file(path: str) -> tuple[int, int] | None:
    """Return what stands at a path now."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def _remove_stale(path: str) -> None:
    """Remove a dead socket of ours. The lock is held."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(status.st_mode):
        raise os_error(
            errno.EEXIST, f"{path} is not a socket, and was left alone; use another path"
        )
    if status.st_uid != os.geteuid():
        what = f"{path} is a socket of uid {status.st_uid}, and was left alone; use another path"
        raise os_error(errno.EPERM, what)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except OSError:
            pass  # it lives: its queue is full, or it is of another type
    raise _in_use(path)


def _cannot_be_made(served: str, error: OSError) -> OSError:
    """Say why a path can't be made: its lock, which stands beside it, can't."""
    folder = os.path.dirname(os.path.abspath(served))
    user = f"uid {os.geteuid()}"
    if error.errno == errno.ENOENT:
        what = f"{served} can't be made, because {folder} does not exist; make that folder"
    elif error.errno != errno.EACCES:
        return error
    elif os.access(os.path.dirname(served) or ".", os.W_OK, effective_ids=True):
        what = f"{served}.lock is another user's, and {user} may not open it; use another path"
    else:
        what = (
            f"{served} can't be made, since {user} may not write to {folder};"
            " use a folder of your own, such as $XDG_RUNTIME_DIR"
        )
    return os_error(error.errno, what)


def _in_use(name: str) -> OSError:
    what = f"another process serves {name}; end it, or use another path"
    return os_error(errno.EADDRINUSE, what)

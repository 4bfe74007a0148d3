"""Where a publisher listens: its path, who may connect, and what stands there already."""

from __future__ import annotations

import os
import re
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers.process import NOBODY, in_child
from helpers.publishing import Process, serve_until

import dmabuf
from dmabuf.share import Publisher, Subscriber

Allocate = Callable[..., dmabuf.Buffer]


@pytest.fixture
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


@pytest.mark.parametrize("umask", [0, 0o077, 0o777], indirect=True)
@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666])
def test_the_path_has_its_mode_whatever_the_umask(path: str, umask: None, mode: int) -> None:
    with Publisher(path, mode=mode):
        assert stat.S_IMODE(os.stat(path).st_mode) == mode


def test_nothing_is_left_of_a_publisher_that_closed(path: str) -> None:
    Publisher(path).close()
    assert os.listdir(os.path.dirname(path)) == []


def test_what_a_dead_publisher_left_is_replaced(path: str) -> None:
    def serve(tell: Callable[[bytes], None]) -> None:
        with Publisher(path) as publisher:
            tell(b"ready")
            publisher.service(None)

    with Process(serve) as process:
        assert process.hear() == b"ready"
        process.kill()
        process.wait()
        assert os.path.exists(path)
        with Publisher(path) as publisher, Subscriber(path):
            serve_until(publisher, lambda: len(publisher.subscribers()) == 1)


def test_a_path_is_served_by_one(path: str) -> None:
    with Publisher(path) as publisher:
        with pytest.raises(OSError, match=f"another process serves {path}"):
            Publisher(path)
        with Subscriber(path):
            serve_until(publisher, lambda: len(publisher.subscribers()) == 1)


def test_a_socket_that_another_program_serves_is_left_alone(path: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
        other.bind(path)
        other.listen()
        with pytest.raises(OSError, match="another process serves"):
            Publisher(path)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.connect(path)


def test_what_is_no_socket_is_left_alone(path: str) -> None:
    Path(path).write_text("a file")
    with pytest.raises(FileExistsError, match="is not a socket"):
        Publisher(path)
    assert Path(path).read_text() == "a file"


def test_a_link_is_left_alone(path: str, tmp_path: Path) -> None:
    os.symlink(tmp_path / "elsewhere", path)
    with pytest.raises(FileExistsError, match="is not a socket"):
        Publisher(path)


@pytest.mark.needs("root")
def test_a_foreign_socket_is_left_alone(path: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as dead:
        dead.bind(path)
    os.chown(path, NOBODY, NOBODY)
    with pytest.raises(PermissionError, match=f"is a socket of uid {NOBODY}"):
        Publisher(path)
    assert os.path.exists(path)


@pytest.mark.needs("root")
def test_a_foreign_lock_is_left_alone(path: str) -> None:
    Path(f"{path}.lock").touch()
    os.chown(f"{path}.lock", NOBODY, NOBODY)
    with pytest.raises(PermissionError, match="use another path"):
        Publisher(path)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    said = f"{tmp_path}/no/s can't be made, because {tmp_path}/no does not exist; make that folder"
    with pytest.raises(FileNotFoundError, match=re.escape(said)):
        Publisher(tmp_path / "no" / "s")


@pytest.mark.needs("root")
def test_a_folder_that_is_not_ones_own_is_named() -> None:
    said = f"uid {NOBODY} may not write to /run; use a folder of your own"
    with pytest.raises(PermissionError, match=said):
        in_child(lambda: Publisher("/run/dmabuf-test.sock").close(), user=NOBODY)


@pytest.mark.needs("root")
def test_a_lock_that_may_not_be_opened_is_named(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path.chmod(0o777)
    Path(f"{path}.lock").touch(0o600)
    monkeypatch.chdir(tmp_path)  # nobody may not go through the folders above
    with pytest.raises(PermissionError, match=r"s\.lock is another user's"):
        in_child(lambda: Publisher("s").close(), user=NOBODY)


def test_a_path_that_another_has_taken_meanwhile_is_not_removed(path: str) -> None:
    publisher = Publisher(path)
    os.unlink(path)
    Path(path).write_text("another's")
    publisher.close()
    assert Path(path).read_text() == "another's"


def test_an_abstract_name_needs_no_file(tmp_path: Path, allocate: Allocate) -> None:
    name = f"@dmabuf-test-{os.getpid()}"
    with Publisher(name) as publisher, Subscriber(name) as subscriber:
        publisher.publish(allocate(4096))
        subscriber.fileno()
        publisher.service()
        subscriber.frame(10).close()
        with pytest.raises(OSError, match="another process serves @dmabuf-test"):
            Publisher(name)


def test_a_listening_socket_is_taken_as_it_is(path: str, allocate: Allocate) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
        listening.bind(path)
        listening.listen()
        early = Subscriber(path)  # as systemd has it: before the service has begun
        with early, Publisher(listening) as publisher:
            publisher.publish(allocate(4096))
            early.fileno()
            publisher.service()
            early.frame(10).close()
        assert os.path.exists(path)
        with Publisher(listening):
            pass


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET])
def test_a_socket_that_does_not_listen_for_packets_is_refused(kind: int) -> None:
    refusal = pytest.raises(ValueError, match=r"SOCK_SEQPACKET|doesn't listen")
    with socket.socket(socket.AF_UNIX, kind) as other, refusal:
        Publisher(other)


@pytest.mark.parametrize("where", ["", "@", "a\0b", "/" + "x" * 107])
def test_what_is_no_path_is_refused(where: str) -> None:
    with pytest.raises(ValueError, match="path"):
        Publisher(where)
    with pytest.raises(ValueError, match="path"):
        Subscriber(where)


@pytest.mark.parametrize(
    "terms",
    [{"in_flight": 0}, {"mode": 0o1777}, {"mode": -1}, {"block": -1.0}, {"hold_timeout": -1.0}],
)
def test_terms_that_make_no_sense_are_refused_and_leave_nothing(
    path: str, terms: dict[str, float]
) -> None:
    with pytest.raises(ValueError, match=next(iter(terms))):
        Publisher(path, **terms)
    assert not os.path.exists(path)


@pytest.mark.needs("root")
def test_who_may_not_connect_is_told_whose_decision_it_is(path: str) -> None:
    os.chmod(os.path.dirname(path), 0o755)

    def subscribe() -> None:
        Subscriber(path)

    with Publisher(path):
        for folder in Path(path).parents:
            if folder.stat().st_uid == os.getuid() and folder != Path("/"):
                folder.chmod(folder.stat().st_mode | 0o055)
        with pytest.raises(PermissionError, match="mode= decides who has"):
            in_child(subscribe, user=NOBODY)

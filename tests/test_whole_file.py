"""Files that are written whole or not at all."""

import contextlib
import os
import stat
import warnings

import pytest
from helpers import interrupt
from helpers.process import NOBODY, in_child

from dmabuf._whole_file import whole_file

pytestmark = pytest.mark.needs("outside")  # it asks no kernel


def write(path, data=b"after"):
    with whole_file(path) as file:
        file.write(data)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"before")
    return path


def test_a_file_that_was_there_keeps_its_mode_and_a_link_to_it_stays(path):
    path.chmod(0o640)
    link = path.with_name("link")
    link.symlink_to("file")
    write(link)
    assert link.is_symlink()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert path.read_bytes() == b"after"
    assert sorted(os.listdir(path.parent)) == ["file", "link"]


def test_a_new_file_has_the_mode_that_any_has(tmp_path):
    write(tmp_path / "new")
    (tmp_path / "other").touch()
    assert (tmp_path / "new").stat().st_mode == (tmp_path / "other").stat().st_mode


@pytest.mark.parametrize("before", [None, b"before"])
def test_an_interruption_at_any_point_leaves_what_was_there(tmp_path, before):
    path = tmp_path / "file"
    for moment in interrupt.every_point():
        path.unlink(missing_ok=True)
        if before is not None:
            path.write_bytes(before)
        with (
            warnings.catch_warnings(),
            contextlib.suppress(interrupt.Interrupted),
            moment.runs(interrupt.raise_interrupted),
        ):
            warnings.simplefilter("ignore", ResourceWarning)  # of open() itself
            write(path)
        left = path.read_bytes() if path.exists() else None
        assert left in (before, b"after"), moment.where
        assert os.listdir(tmp_path) == ([] if left is None else ["file"]), moment.where


def test_an_error_leaves_what_was_there(path):
    def fail():
        with whole_file(path) as file:
            file.write(b"half")
            file.flush()
            raise LookupError

    with pytest.raises(LookupError):
        fail()
    assert path.read_bytes() == b"before"
    assert os.listdir(path.parent) == ["file"]


@pytest.mark.parametrize("kind", ["fifo", "fd"])
def test_a_pipe_is_written(tmp_path, kind):
    if kind == "fifo":
        path = tmp_path / "fifo"
        os.mkfifo(path)
        reader, writer = os.open(path, os.O_RDONLY | os.O_NONBLOCK), os.open(path, os.O_WRONLY)
    else:
        reader, writer = os.pipe()
        path = tmp_path / "link"
        path.symlink_to(f"/dev/fd/{writer}")
    with open(reader, "rb") as pipe, open(writer, "wb"):
        write(path)
        assert pipe.read(5) == b"after"
        assert path.exists()


def test_a_descriptors_own_file_is_written_and_not_replaced(path):
    with open(path, "r+b") as file:
        link = path.with_name("link")
        link.symlink_to(f"/proc/self/fd/{file.fileno()}")
        write(link)
        assert file.read() == b"after"


@pytest.mark.needs("root")
class TestPermissions:
    def test_a_file_that_may_not_be_written_is_left(self, path):
        path.parent.chmod(0o777)
        with pytest.raises(PermissionError):
            in_child(lambda: write(path), user=NOBODY)
        assert path.read_bytes() == b"before"

    def test_a_file_in_a_folder_that_may_not_be_written_is_written(self, path):
        path.parent.chmod(0o755)
        path.chmod(0o666)
        for folder in path.parents:
            if folder.stat().st_mode & 0o1 == 0:
                folder.chmod(folder.stat().st_mode | 0o1)
        in_child(lambda: write(path), user=NOBODY)
        assert path.read_bytes() == b"after"

    def test_it_stays_its_owners(self, path):
        os.chown(path, NOBODY, NOBODY)
        write(path)
        assert (path.stat().st_uid, path.stat().st_gid) == (NOBODY, NOBODY)

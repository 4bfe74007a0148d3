"""Why can't this user allocate? dmabuf-alloc check --user, held against the kernel's own answer."""

import os
import pwd
import struct

import pytest
from helpers.process import NOBODY, in_child

import dmabuf
from dmabuf.cli.checks.permission import find_user

HEAP = "/dev/dma_heap/system"
USER = pwd.getpwuid(NOBODY).pw_name
VIDEO = 44  # any group that the user is not in


def can_open(path):
    """Whether the kernel lets nobody open a heap's node."""

    def attempt():
        try:
            os.close(os.open(path, os.O_RDONLY))
        except PermissionError:
            return False
        return True

    return in_child(attempt, user=NOBODY)


@pytest.fixture
def node():
    """Give the heap's node, which is as before in the end."""
    status = os.stat(HEAP)
    yield HEAP
    if "system.posix_acl_access" in os.listxattr(HEAP):
        os.removexattr(HEAP, "system.posix_acl_access")
    os.chown(HEAP, status.st_uid, status.st_gid)
    os.chmod(HEAP, status.st_mode & 0o7777)


def line_of(out, name):
    """Return the reason that is given for an exporter, and what helps."""
    lines = out.splitlines()
    at = next(n for n, line in enumerate(lines) if line.startswith(f"{name}: "))
    helps = lines[at + 1] if lines[at + 1 :] and lines[at + 1].startswith("  ") else ""
    return lines[at].removeprefix(f"{name}: "), helps.removeprefix("  what to do: ")


@pytest.mark.needs("heap", "udmabuf", "root", "own machine")
class TestUser:
    def test_in_no_group_is_told_the_rule_and_the_group(self, run, node):
        os.chmod(node, 0o600)
        status, out, err = run("check", "--user", USER)
        assert status == 1
        assert err == f"dmabuf-alloc: {USER} may open no exporter here\n"
        assert line_of(out, "system") == (
            f"{USER}, in none of its groups, may not read",
            'put SUBSYSTEM=="dma_heap", GROUP="video", MODE="0660" into'
            " /etc/udev/rules.d/60-dmabuf.rules, run udevadm trigger, then usermod -aG video"
            f" {USER}, and log in again",
        )
        reason, helps = line_of(out, "udmabuf")
        assert reason.endswith("may not read and write")
        assert 'KERNEL=="udmabuf", GROUP="kvm"' in helps
        assert not can_open(node)

    def test_a_mode_for_everybody_lets_the_user_in(self, run, node):
        os.chmod(node, 0o604)
        status, out, err = run("check", "--user", str(NOBODY))
        assert (status, err) == (0, "")
        assert line_of(out, "system") == (f"{USER}, in none of its groups, may read", "")
        assert can_open(node)

    def test_a_group_that_may_is_the_one_to_join(self, run, node):
        os.chown(node, 0, VIDEO)
        os.chmod(node, 0o660)
        status, out, _ = run("check", "--user", USER)
        assert status == 1
        assert line_of(out, "system")[1].startswith(f"run usermod -aG video {USER}, ")
        assert not can_open(node)

    def test_the_users_own_group_lets_the_user_in(self, run, node):
        os.chown(node, 0, pwd.getpwuid(NOBODY).pw_gid)
        os.chmod(node, 0o640)
        status, out, _ = run("check", "--user", USER)
        assert status == 0
        assert ", in the group " in line_of(out, "system")[0]
        assert can_open(node)

    def test_a_group_that_may_not_comes_before_everybody(self, run, node):
        os.chown(node, 0, pwd.getpwuid(NOBODY).pw_gid)
        os.chmod(node, 0o604)
        status, out, _ = run("check", "--user", USER)
        assert status == 1
        assert line_of(out, "system")[0].endswith(" may not read")
        assert not can_open(node)

    @pytest.mark.parametrize(("mask", "allowed"), [(6, True), (0, False)])
    def test_an_acl_decides(self, run, node, mask, allowed):
        none = 0xFFFFFFFF
        entries = [(1, 6, none), (2, 6, NOBODY), (4, 0, none), (0x10, mask, none), (0x20, 0, none)]
        value = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
        os.setxattr(node, "system.posix_acl_access", value)
        status, out, _ = run("check", "--user", USER)
        assert status == (0 if allowed else 1)
        assert "by the node's ACL" in line_of(out, "system")[0]
        assert can_open(node) == allowed

    def test_a_folder_that_may_not_be_searched_is_named(self, run, node):
        os.chmod(node, 0o666)
        folder = os.path.dirname(node)
        mode = os.stat(folder).st_mode & 0o7777
        os.chmod(folder, 0o700)
        try:
            status, out, _ = run("check", "--user", USER)
            assert not can_open(node)
        finally:
            os.chmod(folder, mode)
        assert status == 1
        reason, helps = line_of(out, "system")
        assert reason.startswith(f"may not search the folder {folder}, which is drwx------ ")
        assert helps == f"chmod a+x {folder}"

    def test_root_may_open_all(self, run, node):
        os.chmod(node, 0)
        status, out, _ = run("check", "--user", "root")
        assert status == 0
        assert line_of(out, "system") == ("root may open every node", "")

    def test_a_user_can_ask(self, run, node):
        os.seteuid(NOBODY)
        try:
            status, out, _ = run("check", "--user", USER)
        finally:
            os.seteuid(0)
        assert status == 1
        assert f"system: {USER}, in none of its groups" in out


@pytest.mark.parametrize("name", ["no such user", "", "-1", "99999999999999999999", "a\nb"])
def test_an_unknown_user_is_one_line(run, name):
    status, out, err = run("check", f"--user={name}")
    assert (status, out) == (2, "")
    assert " is not a user of this machine" in err
    assert err.count("\n") == 1


def test_a_user_goes_by_number_too():
    assert find_user("0") == find_user("root")


@pytest.mark.needs("no heap", "no udmabuf")
def test_without_a_node_it_says_where_to_look(run):
    status, _, err = run("check", "--user", "root")
    assert status == 1
    assert "no exporter has a node here" in err


class TestContiguous:
    @pytest.mark.needs("heap", "root")
    def test_the_list_of_devices_says_which_heap_is(self, run):
        _, out, _ = run("list", "--devices")
        names = [info.name for info in dmabuf.heaps() if info.contiguous]
        if names:
            assert f"\ncontiguous, by its name: {', '.join(names)}\n" in out
        else:
            assert "\nno heap here is contiguous; one needs CONFIG_DMABUF_HEAPS_CMA" in out

    @pytest.mark.needs("gpu", "root")
    def test_a_device_of_a_bus_without_an_iommu_is_named(self, run):
        _, out, _ = run("list", "--devices")
        assert "\nwithout an IOMMU, so they may need contiguous memory: /dev/dri/card" in out

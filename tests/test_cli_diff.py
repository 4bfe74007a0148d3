"""dmabuf-alloc diff: what changed between two looks."""

import json

import pytest
from helpers import made_usage
from helpers.command import on_terminal, run_command
from helpers.made_usage import HOSTILE_NAMES, MIB, SHARED, buffer, changed, holder, process

from dmabuf import usage
from dmabuf.cli.console.text import columns_of

outside = pytest.mark.needs("outside")  # what it asks is no kernel

NEW = buffer(500, 8 * MIB, holder(801, "camerad", (20,)), name="ring-3")
LATER = changed(
    SHARED,
    buffers=(*(one for one in SHARED.buffers if one.inode != 377), NEW),
    processes=(process(801, "camerad", "video", 3, 11, 4, 2 * made_usage.RING + 8 * MIB, 1),),
    unreadable=(),
)
EXPECTED = """\
+   500    8.0M system      ring-3       camerad:801(1)
-   377    4.0M udmabuf     scratch      python3:1204(map)
camerad 801 grew by 8.0M, 1 buffer more
1 buffer (8.0M) came, 1 buffer (4.0M) went, 1 process grew
"""


@pytest.fixture
def looks(tmp_path):
    """Give the paths of a look and a later one."""
    before, after = tmp_path / "before.json", tmp_path / "after.json"
    return made_usage.write(SHARED, before), made_usage.write(LATER, after)


@outside
def test_what_came_went_and_grew_is_listed(looks):
    answer = run_command("diff", *looks)
    assert (answer.returncode, answer.stdout, answer.stderr) == (0, EXPECTED, "")


@outside
@pytest.mark.parametrize("columns", [40, 80, 200])
def test_lines_are_cut_to_the_terminal(looks, columns):
    status, lines = on_terminal("diff", *looks, columns=columns)
    assert (status, len(lines)) == (0, 4)
    assert max(map(len, lines)) <= columns
    if columns == 200:
        assert lines == EXPECTED.splitlines()


@outside
def test_the_status_tells_of_differences_if_asked_to(looks):
    before, after = looks
    assert run_command("diff", before, after, "--exit-code").returncode == 1
    assert run_command("diff", before, after, "--exit-code").stdout == EXPECTED
    same = run_command("diff", before, before, "--exit-code")
    assert (same.returncode, same.stdout.splitlines()[0]) == (0, "no difference")


@outside
def test_json_has_the_records(looks):
    answer = run_command("diff", *looks, "--json", "--exit-code")
    document = json.loads(answer.stdout)
    assert answer.returncode == 1
    assert (document["schema"], document["command"]) == (1, "diff")
    assert [one["inode"] for one in document["came"]] == [500]
    assert [one["inode"] for one in document["went"]] == [377]
    assert document["came"][0]["holders"][0]["descriptors"] == [20]
    assert document["grew"] == [
        {"pid": 801, "started": 8010, "command": "camerad", "bytes": 8 * MIB, "buffers": 1}
    ]


@outside
def test_either_look_can_be_standard_input(looks):
    before, after = looks
    assert run_command("diff", "-", after, text=SHARED.to_json()).stdout == EXPECTED
    assert run_command("diff", before, "-", text=LATER.to_json()).stdout == EXPECTED
    assert run_command("diff", "-", "-").returncode == 2


@outside
def test_another_boot_is_said(looks, tmp_path):
    other = made_usage.write(changed(SHARED, boot="two", unreadable=()), tmp_path / "other.json")
    answer = run_command("diff", looks[0], other)
    assert "4 buffers (68.2M) came, 4 buffers (68.2M) went" in answer.stdout
    assert answer.stderr == (
        "dmabuf-alloc: the machine was rebooted between the two: nothing is the same\n"
    )


@outside
def test_no_name_reaches_a_terminal_as_a_command(tmp_path):
    nothing = made_usage.write(changed(HOSTILE_NAMES, buffers=(), processes=()), tmp_path / "0")
    hostile = made_usage.write(HOSTILE_NAMES, tmp_path / "1")
    for two in ((nothing, hostile), (hostile, nothing)):
        _, lines = on_terminal("diff", *two, PYTHONIOENCODING="utf-8")
        assert len(lines) > len(HOSTILE_NAMES.buffers)
        assert all(line.isprintable() and columns_of(line) <= 80 for line in lines)


@pytest.mark.needs("root")
def test_now_is_the_later_look_unless_another_is_given(run, allocate, tmp_path):
    before, during = tmp_path / "before.json", tmp_path / "during.json"
    before.write_text(usage.scan().to_json())
    assert run("diff", str(before), "--exit-code")[0] == 0
    with allocate(2 * MIB, name="fresh") as fresh:
        status, out, _ = run("diff", str(before), "--exit-code")
        assert status == 1
        sign, inode, size = out.split()[:3]
        assert (sign, inode, size) == ("+", str(fresh.inode), "2.0M")
        assert "grew by 2.0M, 1 buffer more" in out
        during.write_text(usage.scan().to_json())
    _, out, _ = run("diff", str(during))
    assert out.split()[:2] == ["-", str(fresh.inode)]

"""The result of a scan: what changed between two, and its JSON."""

import importlib.resources
import json
import os

import jsonschema
import pytest
from helpers.peer import Peer

from dmabuf import usage

SCHEMA = json.loads(
    (importlib.resources.files("dmabuf.usage") / "snapshot.schema.json").read_text()
)


def test_a_scan_survives_json_and_fits_its_schema(buffer):
    memory = buffer.memory
    with Peer():
        scan = usage.scan()
    text = scan.to_json()
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.Draft202012Validator(SCHEMA).validate(json.loads(text))
    assert usage.Usage.from_json(text) == scan
    assert usage.Usage.from_json(text.encode()) == scan
    del memory


def test_the_sums_are_in_the_document(buffer):
    scan = usage.scan()
    document = json.loads(scan.to_json())
    assert document["total"] == scan.total._asdict()
    assert document["exporters"] == {name: sum._asdict() for name, sum in scan.exporters.items()}


def test_fields_of_later_versions_are_ignored(buffer):
    scan = usage.scan()
    document = json.loads(scan.to_json())
    document["buffers"][0]["colour"] = document["weather"] = "blue"
    assert usage.Usage.from_json(json.dumps(document)) == scan


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        "null",
        "1",
        "{",
        '{"command": "ps"}',
        b"\xff",
        "[" * 100_000,
        '{"command": "list", "schema": 1}',
    ],
)
def test_what_is_no_snapshot_is_a_value_error(text):
    with pytest.raises(ValueError, match="snapshot"):
        usage.Usage.from_json(text)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("buffers",), None),
        (("buffers",), {}),
        (("buffers", 0), []),
        (("buffers", 0, "inode"), -1),
        (("buffers", 0, "inode"), True),
        (("buffers", 0, "size"), 1.5),
        (("buffers", 0, "name"), 3),
        (("buffers", 0, "holders", 0, "pid"), "1"),
        (("buffers", 0, "holders", 0, "descriptors"), [None]),
        (("processes", 0, "share"), None),
        (("unreadable",), [-1]),
        (("taken",), "now"),
        (("taken",), float("inf")),
        (("schema",), 2),
    ],
)
def test_a_wrong_field_is_named(buffer, place, value):
    document = json.loads(usage.scan().to_json())
    at = document
    for step in place[:-1]:
        at = at[step]
    at[place[-1]] = value
    with pytest.raises(ValueError, match=rf"{place[-1]}|Infinity"):
        usage.Usage.from_json(json.dumps(document))


def test_a_missing_field_is_named(buffer):
    document = json.loads(usage.scan().to_json())
    del document["buffers"][0]["holders"][0]["pieces"]
    with pytest.raises(ValueError, match=r"lacks buffers\[0\]\.holders\[0\]\.pieces"):
        usage.Usage.from_json(json.dumps(document))


def test_a_difference_tells_what_came_went_and_grew(allocate):
    went = allocate(4096)
    with allocate(4096) as stays:
        before = usage.scan()
        went.close()
        with allocate(8192) as came:
            diff = before.diff(usage.scan())
            assert [one.inode for one in diff.came] == [came.inode]
            assert [one.inode for one in diff.went] == [went.inode]
            (growth,) = diff.grew
            assert growth[0] == os.getpid()
            assert growth[3:] == (4096, 0)
        assert stays.inode not in {one.inode for one in diff.came + diff.went}
    assert before.diff(before) == usage.Diff((), (), ())


def test_a_new_process_grew_by_all_that_it_holds(buffer):
    before = usage.scan()
    with Peer() as peer:
        (growth,) = before.diff(usage.scan()).grew
        assert (growth.pid, growth.bytes, growth.buffers) == (peer.pid, 8192, 1)


def test_another_boot_has_other_buffers(buffer):
    scan = usage.scan()
    diff = scan._replace(boot="another").diff(scan)
    assert diff.came == diff.went == scan.buffers

"""What a look keeps of buffers: a few bytes for each, of which the same records are made again."""

import gc
import pickle
import pydoc
import re
import tracemalloc

import pytest
from helpers.made_usage import CAMERA_RING_1, HOSTILE, PYTHON, SHARED, buffer, usage

import dmabuf.usage
from dmabuf.usage._packed import Packed

MOST = 40  # bytes a descriptor


@pytest.mark.parametrize(
    "records",
    [
        (),
        SHARED.buffers,
        tuple(buffer(at, at, CAMERA_RING_1, name=name) for at, name in enumerate(HOSTILE)),
        (buffer(1, None, name=""), buffer(2, 0, name=None), buffer(3, 1, count=None, exporter="")),
        (buffer(1 << 70, 1 << 65, PYTHON, PYTHON), buffer(0, 255, name="a\0b")),
        (buffer(255, 256, CAMERA_RING_1), buffer(65_535, 65_536), buffer(2**32, 2**64 - 1)),
    ],
    ids=["none", "some", "hostile names", "unknown", "too large", "at limits"],
)
def test_records_are_as_they_were(records):
    look = usage(records, ())
    packed = look._replace(buffers=Packed.of(records))
    assert packed.buffers == records
    assert pickle.loads(pickle.dumps(packed)) == packed == look
    assert hash(packed) == hash(look)
    assert (packed.total, packed.exporters) == (look.total, look.exporters)
    assert packed != look._replace(buffers=records[1:]) or not records
    assert packed.diff(look) == look.diff(packed) == ((), (), ())


def test_its_fields_can_not_be_changed_and_are_told_in_help():
    with pytest.raises(AttributeError):
        SHARED.processes = ()
    text = pydoc.plain(pydoc.render_doc(dmabuf.usage.Usage))
    for name, words in (
        ("buffers", "by inode"),
        ("processes", "hold buffers, sorted by process id"),
    ):
        assert re.search(rf"\|  {name}\n \|      .*{words}", text)


def test_looks_are_equal_and_of_one_hash_if_they_tell_the_same():
    other = SHARED._replace(boot="another")
    assert SHARED != other != SHARED.buffers
    assert len({SHARED, SHARED._replace(), other}) == 2


@pytest.mark.needs("exporter")
def test_a_descriptor_takes_few_bytes_where_each_is_of_another_buffer(allocate):
    count = 200
    buffers = [allocate(4096, name=f"frame-{at}") for at in range(count)]
    dmabuf.usage.scan(explain=False)
    gc.collect()
    tracemalloc.start()
    try:
        look = dmabuf.usage.scan(explain=False)
        gc.collect()
        kept = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
        for one in buffers:
            one.close()
    assert look.total.buffers == count
    assert kept < MOST * count

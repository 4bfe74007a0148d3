"""dmabuf-alloc bench: its figures, its table and its picture."""

import errno
import os
import re
import sys

import numpy
import pytest
from helpers.command import on_terminal
from PIL import Image

from dmabuf.cli.checks import measure
from dmabuf.cli.console import chart
from dmabuf.cli.console.size import short
from dmabuf.errors import AllocationError

QUICK = ("--sizes", "4K,64K", "--rounds", "1")


def rgb(colour):
    return tuple(int(colour[at : at + 2], 16) for at in (1, 3, 5))


def inked(image, line, xs):
    """Return the places below the legend that are nearly of a line's colour."""
    pixels = numpy.asarray(image).astype(int)
    near = abs(pixels - rgb(chart.COLOURS[line])).max(axis=2) < 24
    near[:100] = False
    rows, columns = near.nonzero()
    places = zip(columns.tolist(), rows.tolist(), strict=True)
    return {(x, y) for x, y in places if x in xs}


def colours(image):
    return {colour for _, colour in image.getcolors(1 << 24)}


class TestTable:
    @pytest.mark.needs("heap", "udmabuf", "root")
    def test_each_memory_has_a_line_of_each_size(self, run):
        status, out, err = run("bench", *QUICK)
        assert (status, err) == (0, "")
        tables = dict(block.split("\n", 1) for block in out.strip().split("\n\n"))
        assert {"ordinary memory", "system", "udmabuf"} <= set(tables)
        for name, table in tables.items():
            _, *rows = [line.split() for line in table.splitlines()]
            assert [row[0] for row in rows] == ["4K", "64K"]
            factors = [cell for row in rows for cell in row if re.fullmatch(r"[\d.]+x", cell)]
            assert len(factors) == (0 if name == "ordinary memory" else 6)

    @pytest.mark.needs("heap", "root")
    def test_numbers_stay_whole_on_a_narrow_terminal(self):
        status, lines = on_terminal("bench", "--heap", "system", *QUICK, columns=40)
        assert status == 0
        plain = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in lines]
        rows = [line.split() for line in plain if re.match(r" *(4|64)K  ", line)]
        assert [row[0] for row in rows] == ["4K", "64K", "4K", "64K"]
        assert all(re.fullmatch(r"[\d.]+x", row[-1]) for row in rows[2:])

    @pytest.mark.needs("heap", "root")
    def test_heaps_go_by_name_or_path(self, run):
        _, out, _ = run("bench", "--heap", "/dev/dma_heap/system", *QUICK)
        assert "\nsystem\n" in out
        assert "udmabuf" not in out

    @pytest.mark.needs("heap", "root")
    def test_a_heap_that_was_asked_for_and_is_not_there_fails(self, run):
        status, out, err = run("bench", "--heap", "system", "--heap", "nope", *QUICK)
        assert status == 1
        assert "\nsystem\n" in out
        assert err.startswith("dmabuf-alloc: nope: ")
        assert err.count("\n") == 1

    @pytest.mark.needs("no heap", "no udmabuf")
    def test_without_an_exporter_it_says_where_to_look(self, run):
        status, out, err = run("bench", *QUICK)
        assert status == 1
        assert out.startswith("ordinary memory\n")
        assert err == (
            "dmabuf-alloc: no exporter could be measured; run dmabuf-alloc check to see why\n"
        )

    def test_a_size_that_is_refused_is_told_and_the_others_are_measured(self, allocate):
        def limited(size):
            if size > 8192:
                raise AllocationError(errno.EINVAL, "more than one may have")
            return allocate(size)

        assert measure.dma_buf(8192, 1, limited).error is None
        refused = measure.dma_buf(16384, 1, limited)
        assert (refused.size, refused.write) == (16384, None)
        assert refused.error == "more than one may have"

    def test_the_factors_are_of_the_time_until_memory_is_usable(self):
        own = measure.Figures(4096, 3.0, 1.0, 1.0, 6.0, 1.0)
        other = measure.Figures(4096, 2.0, None, None, 2.0, 4.0)
        assert own.against(other) == {"allocate": 2.0, "write": 3.0, "read": 0.25}

    def test_figures_of_a_narrow_column(self):
        sizes = (1, 999, 4096, 65536, 1 << 20, 1536 << 20, 2_300_000)
        shown = ["1", "999", "4K", "64K", "1M", "1.5G", "2.2M"]
        assert [short(size) for size in sizes] == shown


class TestMisuse:
    @pytest.mark.parametrize(
        ("words", "says"),
        [
            ("--sizes 4K,,", "is not a size"),
            ("--sizes 0", "at least 1 byte"),
            ("--rounds 0", "is not a count"),
            ("--plot bench.jpg", "does not end in .png"),
            ("--plot /nonexistent/bench.png", "there is no folder /nonexistent"),
            ("64M", "unrecognized arguments"),
        ],
    )
    def test_is_one_line(self, run, words, says):
        status, out, err = run("bench", *words.split())
        assert (status, out) == (2, "")
        assert says in err
        assert err.count("\n") == 1

    def test_more_than_the_machine_has_is_refused_at_once(self, run):
        status, out, err = run("bench", "--sizes", "4K,900T")
        assert (status, out) == (1, "")
        assert "twice 900 TiB" in err

    def test_without_pillow_a_picture_is_refused_at_once(self, run, monkeypatch):
        monkeypatch.setitem(sys.modules, "PIL", None)
        status, out, err = run("bench", "--plot", "bench.png")
        assert (status, out) == (1, "")
        assert err == "dmabuf-alloc: --plot needs Pillow 10.1; run pip install 'dmabuf[plot]'\n"

    @pytest.mark.needs("heap", "root")
    def test_a_picture_that_cannot_be_written_leaves_the_table(self, run, tmp_path):
        folder = tmp_path / "folder.png"
        folder.mkdir()
        status, out, err = run("bench", "--heap", "system", *QUICK, "--plot", str(folder))
        assert status == 1
        assert "\nsystem\n" in out
        assert err == f"dmabuf-alloc: {folder}: {os.strerror(errno.EISDIR)}\n"


TICKS = [(10.0**power, f"1e{power}") for power in range(4)]


class TestPicture:
    def drawn(self, path, *lines):
        panel = chart.Panel("panel", [chart.Line(*line) for line in lines], TICKS, TICKS)
        chart.save(str(path), "title", [name for name, _ in lines], [panel])
        return Image.open(path).convert("RGB")

    def test_points_stand_where_their_values_are(self, tmp_path):
        image = self.drawn(tmp_path / "x.png", ("a", []), ("b", [(1, 1), (1000, 1000)]))
        assert image.size == (chart.WIDTH, chart.HEIGHT)
        places = inked(image, 1, range(chart.WIDTH))
        (left, low), (right, high) = min(places), max(places)
        assert left < 100 < 500 < right  # the whole width of the first of four panels
        assert high < 150 < 400 < low

    def test_values_that_are_equal_are_level(self, tmp_path):
        image = self.drawn(tmp_path / "x.png", ("a", []), ("b", [(1, 10), (1000, 10)]))
        heights = [{y for _, y in inked(image, 1, [x])} for x in (200, 300, 400)]
        assert heights[0] == heights[1] == heights[2] != set()

    def test_each_line_has_its_colour(self, tmp_path):
        lines = [(name, [(1, place + 1), (100, place + 1)]) for place, name in enumerate("abc")]
        found = colours(self.drawn(tmp_path / "x.png", *lines))
        assert {rgb(colour) for colour in chart.COLOURS[:3]} <= found
        assert rgb(chart.COLOURS[3]) not in found

    def test_one_point_and_none_can_be_drawn(self, tmp_path):
        self.drawn(tmp_path / "x.png", ("a", [(5, 5)]))
        self.drawn(tmp_path / "y.png", ("a", []))

    @pytest.mark.needs("heap", "root")
    def test_the_command_draws_ordinary_memory_and_the_heap(self, run, tmp_path):
        path = tmp_path / "bench.png"
        status, out, _ = run("bench", "--heap", "system", *QUICK, "--plot", str(path))
        assert status == 0
        assert out.endswith(f"picture: {path}\n")
        image = Image.open(path).convert("RGB")
        ordinary, system = (rgb(colour) for colour in chart.COLOURS[:2])
        middle, centre = chart.WIDTH // 2, (chart.HEIGHT + 96) // 2
        for box in (
            (0, 96, middle, centre),
            (0, centre, middle, chart.HEIGHT),
            (middle, centre, chart.WIDTH, chart.HEIGHT),
        ):
            assert {ordinary, system} <= colours(image.crop(box))
        synced = colours(image.crop((middle, 96, chart.WIDTH, centre)))
        assert system in synced
        assert ordinary not in synced

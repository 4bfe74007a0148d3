"""The pictures of what things cost show the results that are kept, and those alone."""

import importlib
import re
from html import unescape
from pathlib import Path

import pytest

pytestmark = pytest.mark.needs("outside")  # it asks no kernel

ROOT = Path(__file__).parent.parent
PICTURES = ROOT / "docs" / "pictures"


@pytest.fixture
def results(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("results")


def test_each_picture_is_drawn_of_the_results_that_are_kept(results):
    for picture in results.PICTURES:
        drawn = (PICTURES / f"bench-{picture}.svg").read_text()
        description = re.search(r"<dc:description>(.*?)</dc:description>", drawn, re.DOTALL)[1]
        assert unescape(description) == results.words(picture), "run make plots"


def test_each_bar_has_its_name_and_its_number(results):
    for picture in results.RATIOS:
        drawn = (PICTURES / f"bench-{picture}.svg").read_text()
        texts = [unescape(text) for text in re.findall(r"<text [^>]*>(.*?)</text>", drawn)]
        bars = list(results.ratios(picture))
        assert [text for text in texts if text in {bar.label for bar in bars}] == [
            bar.label for bar in bars
        ]
        place = texts.index(bars[0].told, texts.index(bars[-1].label))
        assert texts[place : place + len(bars)] == [bar.told for bar in bars]


def test_the_page_shows_every_picture(results):
    page = (ROOT / "docs" / "benchmarks.md").read_text()
    shown = re.findall(r"\(pictures/bench-(.*?)\.svg\)", page)
    assert sorted(shown) == sorted(results.PICTURES)
    assert {path.name for path in PICTURES.glob("bench-*")} == {
        f"bench-{name}.svg" for name in shown
    }


def test_a_ratio_is_ours_by_the_others_of_the_result(results):
    found = results.result("core")["times_ns"]["empty write scope"]
    bars = {bar.label: bar for bar in results.ratios("calls")}
    bar = bars["empty write scope : bare"]
    assert bar.ratio == pytest.approx(found["dmabuf"] / found["bare"])
    assert bar.wanted == 2.5

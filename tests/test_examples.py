"""The programs that users copy: the README's and those in examples/ run as they stand."""

import re
import runpy
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.needs("heap")
def test_the_first_example_of_the_readme_runs(capsys):
    readme = (ROOT / "README.md").read_text()
    example = re.search(r"```python\n(.*?)```", readme, re.DOTALL)
    assert readme[: example.end()].count("\n") <= 20
    exec(compile(example[1], "README.md", "exec"), {})
    assert "b'hello' <dmabuf.Buffer fd=" in capsys.readouterr().out


@pytest.mark.needs("heap", "vgem")
def test_handover_shows_each_frame_after_it_was_drawn(monkeypatch, capsys, tmp_path):
    from PIL import Image

    picture = tmp_path / "timeline.png"
    monkeypatch.setattr(sys, "argv", ["handover.py", str(picture)])
    runpy.run_path(str(ROOT / "examples" / "handover.py"), run_name="__main__")
    producer, consumer, *_ = capsys.readouterr().out.splitlines()
    for frame in "012":
        drawn = producer.index(frame)
        queued, shown = (place.start() for place in re.finditer(frame, consumer))
        assert drawn <= queued < shown
        assert "#" not in producer[shown + 1 : shown + 4]
    with Image.open(picture) as image:
        colours = {colour for _, colour in image.getcolors(1000)}
    assert {(0xC2, 0x41, 0x0C), (0x03, 0x69, 0xA1), (0xCB, 0xD5, 0xE1)} <= colours

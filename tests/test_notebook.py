"""The notebook of the pages runs as it stands, and shows what is kept in it."""

import json
import subprocess
import sys
from base64 import b64decode
from io import BytesIO
from pathlib import Path

import numpy
import pytest
from PIL import Image

ROOT = Path(__file__).parent.parent
CELLS = json.loads((ROOT / "docs/notebook.ipynb").read_text())["cells"]


def outputs(cells):
    return [output for cell in cells for output in cell.get("outputs", ())]


def texts(cells):
    """Return what is printed, and the values that are no pictures."""
    return [
        "".join(output.get("text") or output["data"]["text/plain"])
        for output in outputs(cells)
        if "image/png" not in output.get("data", {})
    ]


def pictures(cells):
    shown = [output.get("data", {}).get("image/png") for output in outputs(cells)]
    return [numpy.asarray(Image.open(BytesIO(b64decode(png)))) for png in shown if png]


def test_every_cell_was_run_in_its_order():
    run = [cell["execution_count"] for cell in CELLS if cell["cell_type"] == "code"]
    assert run == list(range(1, len(run) + 1))
    assert len(pictures(CELLS)) == 3


@pytest.mark.needs("vivid", "no vim2m", "heap", "own machine")
def test_it_shows_what_is_kept_in_it(tmp_path):
    made = tmp_path / "notebook.ipynb"
    subprocess.run([sys.executable, ROOT / "scripts/run_notebook", made], check=True, cwd=ROOT)
    cells = json.loads(made.read_text())["cells"]
    assert [cell["source"] for cell in cells] == [cell["source"] for cell in CELLS]
    assert texts(cells) == texts(CELLS)
    card, still, changed = pictures(cells)
    assert numpy.array_equal(card, pictures(CELLS)[0])
    assert card[0, -1, 2] == 255 > card[0, 0, 2]
    assert still.shape == changed.shape == pictures(CELLS)[1].shape == (180, 320, 3)
    differ = numpy.argwhere((still != changed).any(axis=2))
    assert len(differ)
    assert (differ.min(axis=0) >= (60, 100)).all()
    assert (differ.max(axis=0) < (120, 220)).all()

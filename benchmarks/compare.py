"""What the benchmarks share: C programs built for the run, and figures told as ratios.

Every figure is the best of several interleaved repeats, and the ratio is what counts: the machine
is shared and perhaps emulated.
"""

import contextlib
import datetime
import json
import os
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from aims import AIMS
from rich.console import Console
from rich.table import Table

import dmabuf

HERE = Path(__file__).parent
Rows = dict[str, dict[str, float]]


@contextlib.contextmanager
def compiled(name: str, *options: str) -> Iterator[Path]:
    """Give the program made of a C file of this folder.

    Where there is no compiler, it is what was made of it before, in the folder for results.
    """
    if shutil.which("gcc") is None:
        yield Path(os.environ["DMABUF_VM_OUT"], name)
        return
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / name
        subprocess.run(["gcc", "-O2", *options, "-o", program, HERE / f"{name}.c"], check=True)
        yield program


def keep_best(best: dict[str, float], way: str, figure: float) -> None:
    """Note a way's figure if it is the best so far."""
    best[way] = min(best.get(way, figure), figure)


def run_c(program: Path, *arguments: object) -> float:
    """Return the figure that a C program prints."""
    words = [str(program), *map(str, arguments)]
    return float(subprocess.run(words, check=True, capture_output=True, text=True).stdout)


def report(name: str, rows: Rows, more: Mapping[str, float] = {}) -> None:
    """Print each comparison in microseconds, with our ratio to every other way, and keep it all."""
    title = f"dmabuf {dmabuf.__version__} on Linux {os.uname().release}"
    table = Table("", "best times", "dmabuf against (wanted)", title=title)
    for row, best in rows.items():
        times = "  ".join(f"{way} {figure / 1000:,.1f} µs" for way, figure in best.items())
        others = [(way, figure) for way, figure in best.items() if way != "dmabuf"]
        wanted = {way: f" ({aim:g})" for way, aim in AIMS.get(row, {}).items()}
        ratios = "  ".join(
            f"{way} x{best['dmabuf'] / figure:.2f}{wanted.get(way, '')}" for way, figure in others
        )
        table.add_row(row, times, ratios)
    Console(width=130).print(table)
    for what, figure in more.items():
        print(f"{what}: {figure:,.2f}")
    keep(name, {"times_ns": rows, **more})


def keep(name: str, figures: Mapping[str, object]) -> None:
    """Write figures, and where and when they were measured, into the folder for results, if any."""
    if "DMABUF_VM_OUT" in os.environ:
        model = re.search(r"^model name\s*: (.*)", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        about = {
            "when": datetime.date.today().isoformat(),
            "kernel": os.uname().release,
            "python": platform.python_version(),
            "processor": model[1] if model else platform.machine(),
        }
        text = json.dumps({**about, **figures}, indent=1)
        Path(os.environ["DMABUF_VM_OUT"], f"{name}.json").write_text(text + "\n")

"""What it takes to look for devices, against v4l2-ctl and modetest. Writes discovery.json.

As a program that is started for it, and as a second call of one that runs.
"""

import os
import shutil
import subprocess
import sys
import time

from compare import Rows, keep_best, report

from dmabuf import devices

REPEATS = 4
OTHERS = {
    "v4l2-ctl": ["v4l2-ctl", "--list-devices"],
    "modetest": ["modetest", "-c"],
}
PROGRAMS = {
    "dmabuf": [sys.executable, "-c", "from dmabuf import devices; devices.find()"],
    "bare Python": [sys.executable, "-c", "pass"],
    **{name: words for name, words in OTHERS.items() if shutil.which(words[0])},
}


def run(words: list[str]) -> float:
    """Return nanoseconds from the start of a program to its end."""
    compiled = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}  # as it is where it is installed
    start = time.perf_counter_ns()
    subprocess.run(words, check=False, capture_output=True, env=compiled)
    return time.perf_counter_ns() - start


def main() -> None:
    """Measure in turns, and print the ratios."""
    run(PROGRAMS["dmabuf"])  # compiles
    devices.find()
    programs: dict[str, float] = {}
    again: dict[str, float] = {}
    for _ in range(REPEATS):
        for name, words in PROGRAMS.items():
            keep_best(programs, name, run(words))
        start = time.perf_counter_ns()
        devices.find()
        keep_best(again, "dmabuf", time.perf_counter_ns() - start)
    rows: Rows = {"find devices, as a program": programs, "find devices, once more": again}
    report("discovery", rows)


if __name__ == "__main__":
    main()

"""What a flip costs, against C and modetest, and with many framebuffers; writes flips.json.

Pictures are shown in turns: `show()` and `wait()`. The figures are processor time of this process:
what the driver does in threads of its own is not in them.
"""

from __future__ import annotations

import itertools
import shutil
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path

from compare import compiled, keep_best, report

import dmabuf
from dmabuf import Image
from dmabuf.devices.kms import Display, Mode, _ioctl

REPEATS = 4
FLIPS = 60
MANY = 200


def smallest(display: Display) -> Mode:
    """Return the mode of the fewest pixels: many pictures of it fit into memory."""
    return min(display.connector.modes, key=lambda mode: mode.width * mode.height)


def by_c(program: Path, display: Display) -> float:
    """Return nanoseconds a flip of a program in C, which has this display's descriptor."""
    fd = display.fileno()
    crtc, plane = _ioctl.get_resources(fd).crtcs[0], display.plane.number
    framebuffer, _ = _ioctl.get_properties(fd, plane)["FB_ID"]
    fence, _ = _ioctl.get_properties(fd, crtc)["OUT_FENCE_PTR"]
    size = smallest(display).size
    words = list(map(str, (program, fd, crtc, plane, framebuffer, fence, *size, FLIPS)))
    run = subprocess.run(words, check=True, capture_output=True, text=True, pass_fds=[fd])
    return float(run.stdout)


def by_modetest(driver: str, connector: int, mode: str) -> float:
    """Return nanoseconds a flip of modetest, which tells of each 60, and ends with its input."""
    words = ["modetest", "-M", driver, "-s", f"{connector}:{mode}", "-v"]
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        times = []
        for line in process.stderr:
            if line.startswith("freq"):
                # What it has had of the processor, in ns.
                times.append(int(Path(f"/proc/{process.pid}/schedstat").read_text().split()[0]))
                if len(times) == 3:
                    process.communicate("\n")
                    return (times[2] - times[0]) / 120
    raise OSError(f"modetest has ended, and told of {len(times)} times 60 flips")


def flip(display: Display, images: list[Image], count: int) -> None:
    """Show images in turns."""
    for image in itertools.islice(itertools.cycle(images), count):
        display.show(image).wait()


def spent(display: Display, images: list[Image]) -> float:
    """Return nanoseconds of processor time a flip."""
    flip(display, images, len(images))  # each has its framebuffer from here on
    start = time.process_time_ns()
    flip(display, images, FLIPS)
    return (time.process_time_ns() - start) / FLIPS


def main() -> None:
    """Measure in turns, and print the ratios."""
    few: dict[str, float] = {}
    many: dict[str, float] = {}
    with compiled("flips", "-I/usr/include/libdrm") as program, ExitStack() as stack:
        display = stack.enter_context(Display())
        size = smallest(display).size
        images = [
            stack.enter_context(Image.allocate("XRGB8888", *size, allocate=dmabuf.allocate))
            for _ in range(MANY)
        ]
        for _ in range(REPEATS):
            keep_best(few, "dmabuf", spent(display, images[:2]))
            if display.atomic:
                keep_best(few, "C", by_c(program, display))
            keep_best(many, "dmabuf", spent(display, images))
            keep_best(many, "with 2", few["dmabuf"])
        driver, number = display.driver, display.connector.number
        mode = smallest(display).name
    if shutil.which("modetest"):
        few["modetest"] = min(by_modetest(driver, number, mode) for _ in range(REPEATS))
    report("flips", {"flip": few, f"flip with {MANY} framebuffers": many})


if __name__ == "__main__":
    main()

"""The struct layouts and request numbers, held against the generator and a C compiler."""

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_generated_modules_are_what_the_generator_writes(tmp_path):
    subprocess.run([sys.executable, ROOT / "scripts" / "gen_uapi", tmp_path], check=True)
    names = {path.relative_to(tmp_path) for path in tmp_path.rglob("*.py")}
    assert names == {path.relative_to(ROOT) for path in ROOT.glob("dmabuf/**/*_uapi.py")}
    for name in names:
        assert (tmp_path / name).read_bytes() == (ROOT / name).read_bytes()


def test_layouts_and_requests_are_those_of_the_machines_headers(capsys):
    """`make layouts` holds them against the headers of every stock kernel."""
    command = [sys.executable, ROOT / "scripts" / "uapi_check", "--verbose"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    verdicts = run.stdout.splitlines()
    with capsys.disabled():
        print(*(line for line in verdicts if not line.startswith("ok")), sep="\n")
    assert run.returncode == 0, run.stdout + run.stderr
    for bits in ("32 bit", "64 bit"):
        held = [line for line in verdicts if line.startswith("ok") and bits in line]
        assert len(held) >= 40


def test_a_wrong_layout_is_found(tmp_path):
    include = tmp_path / "include"
    for folder in ("linux", "libdrm"):
        shutil.copytree(f"/usr/include/{folder}", include / folder)
    header = include / "linux" / "dma-heap.h"
    header.write_text(header.read_text().replace("__u32 fd_flags", "__u64 fd_flags"))
    command = [sys.executable, ROOT / "scripts" / "uapi_check", "--bits", "64", include]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert "WRONG sizeof(struct dma_heap_allocation_data) = 0x20, not 0x18" in run.stdout
    assert "WRONG DMA_HEAP_IOCTL_ALLOC" in run.stdout

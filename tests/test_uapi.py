"""The struct layouts and request numbers, held against the generator and a C compiler."""

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_generated_module_is_what_the_generator_writes(tmp_path):
    again = tmp_path / "_uapi.py"
    subprocess.run([sys.executable, ROOT / "scripts" / "gen_uapi", again], check=True)
    assert again.read_bytes() == (ROOT / "dmabuf" / "_uapi.py").read_bytes()


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
    shutil.copytree("/usr/include/linux", include / "linux")
    header = include / "linux" / "dma-heap.h"
    header.write_text(header.read_text().replace("__u32 fd_flags", "__u64 fd_flags"))
    command = [sys.executable, ROOT / "scripts" / "uapi_check", "--bits", "64", include]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert "WRONG sizeof(struct dma_heap_allocation_data) = 0x20, not 0x18" in run.stdout
    assert "WRONG DMA_HEAP_IOCTL_ALLOC" in run.stdout

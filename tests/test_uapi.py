"""The struct layouts and request numbers, held against the generator and a C compiler."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.needs("outside")

ROOT = Path(__file__).parent.parent
HEADERS = Path("/usr/include")
# Compilers of other processors know one width.
WIDTHS = [64, 32] if os.uname().machine == "x86_64" else [64]


def uapi_check(*words):
    command = [sys.executable, ROOT / "scripts" / "uapi_check", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def include(tmp_path):
    """Give an include folder with the machine's headers, those in linux/ to be changed."""
    include = tmp_path / "include"
    shutil.copytree(HEADERS / "linux", include / "linux")
    for path in HEADERS.iterdir():
        if path.name != "linux":
            (include / path.name).symlink_to(path)
    return include


def test_the_generated_modules_are_what_the_generator_writes(tmp_path):
    subprocess.run([sys.executable, ROOT / "scripts" / "gen_uapi", tmp_path], check=True)
    names = {path.relative_to(tmp_path) for path in tmp_path.rglob("*.py")}
    assert names == {path.relative_to(ROOT) for path in ROOT.glob("dmabuf/**/*_uapi.py")}
    for name in names:
        assert (tmp_path / name).read_bytes() == (ROOT / name).read_bytes()


def test_layouts_and_requests_are_those_of_the_machines_headers(capsys):
    """`make layouts` holds them against the headers of every stock kernel."""
    run = uapi_check("--verbose")
    verdicts = run.stdout.splitlines()
    with capsys.disabled():
        print(*(line for line in verdicts if not line.startswith("ok")), sep="\n")
    assert run.returncode == 0, run.stdout + run.stderr
    for bits in WIDTHS:
        held = [line for line in verdicts if line.startswith("ok") and f"{bits} bit" in line]
        assert len(held) >= 40


def test_a_wrong_layout_is_found(include):
    header = include / "linux" / "dma-heap.h"
    header.write_text(header.read_text().replace("__u32 fd_flags", "__u64 fd_flags"))
    run = uapi_check("--bits", "64", include)
    assert run.returncode == 1
    assert "WRONG sizeof(struct dma_heap_allocation_data) = 0x20, not 0x18" in run.stdout
    assert "WRONG DMA_HEAP_IOCTL_ALLOC" in run.stdout


def test_a_definition_that_should_be_there_is_missed(include):
    header = include / "linux" / "dma-buf.h"
    header.write_text(header.read_text().replace("DMA_BUF_IOCTL_SYNC", "SOMETHING_ELSE"))
    run = uapi_check("--bits", "64", include)
    assert run.returncode == 1
    assert "WRONG DMA_BUF_IOCTL_SYNC, since 4.6: linux/dma-buf.h" in run.stdout


def test_a_missing_header_is_told_and_not_taken_from_the_machine(include):
    (include / "linux" / "udmabuf.h").unlink()
    (include / "libdrm").unlink()
    run = uapi_check("--bits", "64", include)
    assert f"lacks linux/udmabuf.h: {include}" in run.stdout
    assert f"lacks drm/drm.h: {include}" in run.stdout
    assert "UDMABUF_CREATE" not in run.stdout

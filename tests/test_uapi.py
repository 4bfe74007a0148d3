"""The struct layouts and request numbers, held against the generator and a C compiler."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "dmabuf-vm"
HEADERS = [Path("/usr/include"), *sorted(CACHE.glob("headers/*/usr/include"))]


def test_the_generated_module_is_what_the_generator_writes(tmp_path):
    again = tmp_path / "_uapi.py"
    subprocess.run([sys.executable, ROOT / "scripts" / "gen_uapi", again], check=True)
    assert again.read_bytes() == (ROOT / "dmabuf" / "_uapi.py").read_bytes()


@pytest.mark.parametrize("bits", ["64", "32"])
@pytest.mark.parametrize("include", HEADERS, ids=lambda path: path.parent.parent.name or "system")
def test_layouts_and_requests_are_those_of_the_headers(include, bits, capsys):
    command = [sys.executable, ROOT / "scripts" / "uapi_check", "--bits", bits, include]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    verdicts = run.stdout.splitlines()
    with capsys.disabled():
        print(*(line for line in verdicts if not line.startswith("ok")), sep="\n")
    assert run.returncode == 0, run.stdout + run.stderr
    held = [line for line in verdicts if line.startswith("ok")]
    lacking = [line for line in verdicts if line.startswith("lacks")]
    assert len(held) + len(lacking) == len(verdicts)
    assert len(held) >= 40

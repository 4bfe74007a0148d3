"""The logger of ioctls: off and absent by default, and what its lines tell."""

import contextlib
import io
import logging
import os
import re
import subprocess
import sys

import pytest
from helpers.process import in_child

import dmabuf
from dmabuf import _ioctl
from dmabuf.cli import main

LINE = r"{} on (\d+) \({}\): {} -> {}, \d+\.\d{{3}} ms"


def logged(body):
    """Return what a program of its own logs, whose code this is."""
    environment = os.environ | {"DMABUF_LOG": "debug"}
    run = subprocess.run(
        [sys.executable, "-c", body], env=environment, capture_output=True, text=True, check=True
    )
    return run.stderr.splitlines()


def test_it_is_not_there_by_default():
    program = (
        "import sys; from dmabuf import _ioctl; "
        "print(type(_ioctl.ioctl).__name__, 'logging' in sys.modules, 'dmabuf._log' in sys.modules)"
    )
    environment = {name: text for name, text in os.environ.items() if name != "DMABUF_LOG"}
    command = [sys.executable, "-c", program]
    answer = subprocess.check_output(command, env=environment)
    assert answer == b"builtin_function_or_method False False\n"


@pytest.mark.needs("heap")
def test_a_line_tells_name_file_argument_result_and_time():
    body = "import dmabuf\nwith dmabuf.Heap() as heap: heap.allocate(5000).close()"
    (line,) = logged(body)
    given, made = r"len=5000 fd=0 fd_flags=0x80002 heap_flags=0x0", r"fd=\d+"
    path = "/dev/dma_heap/system"
    assert re.fullmatch(
        "dmabuf.ioctl: " + LINE.format("DMA_HEAP_IOCTL_ALLOC", path, given, made), line
    )


@pytest.mark.needs("udmabuf")
def test_a_descriptor_that_is_an_ioctls_result_is_told():
    body = """if True:
        import dmabuf, sys
        with dmabuf.udmabuf.allocate(1) as one:
            print(one.fileno(), file=sys.stderr)
    """
    line, made = logged(body)
    assert re.search(rf"UDMABUF_CREATE on .* -> {made}, ", line)


@pytest.mark.needs("heap")
def test_an_access_is_told_in_words():
    body = "import dmabuf\nwith dmabuf.allocate(1) as b, b.read(), b.read_write(): pass"
    syncs = [line for line in logged(body) if "DMA_BUF_IOCTL_SYNC" in line]
    told = [re.search(r"flags=(\S+) -> 0,", line)[1] for line in syncs]
    assert told == ["READ|START", "READ|WRITE|START", "READ|WRITE|END", "READ|END"]
    assert all("(/dmabuf:)" in line for line in syncs)


@pytest.mark.needs("heap")
def test_an_error_is_told_by_its_name():
    body = """if True:
        import contextlib, dmabuf
        with dmabuf.allocate(1) as buffer, contextlib.suppress(ValueError):
            dmabuf.Fence(buffer.fileno())
    """
    assert any(re.search(r"SYNC_IOC_FILE_INFO on .* -> E[A-Z]+, ", line) for line in logged(body))


def test_a_program_with_handlers_of_its_own_gets_the_records():
    def body():
        records = []

        class Keeper(logging.Handler):
            def emit(self, record):
                records.append(record)

        logging.getLogger("dmabuf").addHandler(Keeper())
        dmabuf.log_ioctls()
        dmabuf.log_ioctls()
        with open("/dev/null") as file, pytest.raises(OSError, match="SYNC_IOC_FILE_INFO"):
            _ioctl.sync_file_info(file.fileno())
        (record,) = records
        assert (record.name, record.levelno) == ("dmabuf.ioctl", logging.DEBUG)
        assert record.getMessage().startswith("SYNC_IOC_FILE_INFO on ")
        assert re.search(r" \(/dev/null\): .* -> ENOTTY, ", record.getMessage())

    in_child(body)


@pytest.mark.needs("vgem")
def test_what_devices_are_asked_is_told_by_name_too():
    lines = logged("import dmabuf; dmabuf.devices.drm.Vgem().close()")
    line = re.compile(r"DRM_IOCTL_VERSION on \d+ \(/dev/dri/\w+\): .*name_len=32")
    assert any(line.search(one) for one in lines)


def test_the_command_switches_it_off_again():
    def body():
        with contextlib.redirect_stdout(io.StringIO()):
            assert main(["list", "--debug"]) == 0
        assert type(_ioctl.ioctl).__name__ == "builtin_function_or_method"

    in_child(body)

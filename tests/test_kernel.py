"""What is said of a driver that the kernel lacks, by the kernel's files; and of other processes."""

import errno
import gzip
import re

import pytest
from helpers.confine import drop_capability_to_trace
from helpers.process import NOBODY, in_child

import dmabuf
from dmabuf import _kernel, _tracing, heap, udmabuf
from dmabuf.cli import main
from dmabuf.cli.checks.kernel import advise
from dmabuf.devices.drm import Vgem

LOAD = "run modprobe udmabuf as root"
BOOT = "boot a kernel that was built with it"


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """Give a function that sets which modules and which configuration the kernel's files tell."""

    def is_built(modules, option):
        monkeypatch.setattr(_kernel, "_modules_folder", lambda: str(tmp_path))
        if modules is not None:
            lines = [f"kernel/drivers/dma-buf/{name}.ko.xz: x.ko\n" for name in modules]
            (tmp_path / "modules.dep").write_text("kernel/other.ko:\n" + "".join(lines))
        if option is not None:
            (tmp_path / "config").write_text(f"CONFIG_UDMABUF={option}\n")
        monkeypatch.setattr(_kernel, "_configuration_files", lambda: [str(tmp_path / "config")])

    return is_built


class TestRemedy:
    @pytest.mark.parametrize(
        ("modules", "option", "remedy"),
        [
            (["udmabuf"], None, LOAD),
            (["udmabuf"], "m", LOAD),
            ([], "n", f"{BOOT}: FOLDER/config says that this one was not"),
            (None, "n", f"{BOOT}: FOLDER/config says that this one was not"),
            ([], None, f"{BOOT}: FOLDER has no module udmabuf"),
            ([], "m", "install the kernel's package of more modules: FOLDER/config says that"),
            (None, "m", LOAD),
            (None, None, f"{LOAD}, or {BOOT}"),
            ([], "y", "bring the node here: mount a devtmpfs, or start the container with --"),
        ],
    )
    def test_what_the_kernels_files_say(self, machine, tmp_path, modules, option, remedy):
        machine(modules, option)
        told = udmabuf.KIND.how_to_get(udmabuf.PATH)
        assert told.replace(str(tmp_path), "FOLDER").startswith(remedy)

    @pytest.mark.needs("no heap", "no udmabuf")
    def test_whoever_reports_it_has_the_same(self, capfd):
        remedies = {}
        for name, kind, path in (
            ("system", heap.KIND, "/dev/dma_heap/system"),
            ("udmabuf", udmabuf.KIND, udmabuf.PATH),
        ):
            remedies[name] = kind.how_to_get(path)
        with pytest.raises(dmabuf.AllocationError) as caught:
            dmabuf.allocate(1)
        main(["check"])
        report, _ = capfd.readouterr()
        main(["4K"])
        _, error = capfd.readouterr()
        main(["4K", "--heap", "system"])
        _, of_heap = capfd.readouterr()
        for name, remedy in remedies.items():
            assert f"  what to do: {remedy}\n" in report, name
            assert f"; {remedy}" in error, name
            assert f"; {remedy}" in str(caught.value), name
        assert of_heap.endswith(f"; {remedies['system']}\n")

    @pytest.mark.needs("outside", "no vgem")
    def test_without_vgem_it_is_the_modules_as_any_others(self):
        how = _kernel.how_to_get(("CONFIG_DRM_VGEM",), "vgem")
        with pytest.raises(dmabuf.UnsupportedError, match=f"CONFIG_DRM_VGEM; {re.escape(how)}$"):
            Vgem()

    def test_an_error_without_one_is_looked_for_in_dmesg(self):
        assert advise(None) == (None, None)
        assert advise(OSError(errno.EIO, "no; do this; and that")) == ("no", "do this; and that")
        assert advise(OSError(errno.EIO, "no")) == ("no", "look for its driver's messages in dmesg")


class TestConfiguration:
    @pytest.mark.parametrize(("name", "opener"), [("config", open), ("config.gz", gzip.open)])
    def test_it_is_read_from_the_first_file_there_is(self, monkeypatch, tmp_path, name, opener):
        path = str(tmp_path / name)
        with opener(path, "wt") as file:
            file.write("# CONFIG_DMABUF_HEAPS is not set\nCONFIG_UDMABUF=m\nCONFIG_A=n\n")
        monkeypatch.setattr(_kernel, "_configuration_files", lambda: ["/nonexistent", path])
        options = {"CONFIG_DMABUF_HEAPS": "n", "CONFIG_UDMABUF": "m"}
        built = _kernel.configuration()
        assert built.path == path
        assert built.options | options == built.options
        assert set(built.options.values()) == {"n", "m"}

    def test_one_that_is_cut_off_is_passed_over(self, monkeypatch, tmp_path):
        path = tmp_path / "config.gz"
        path.write_bytes(gzip.compress(b"CONFIG_UDMABUF=m\n" * 1000)[:-20])
        monkeypatch.setattr(_kernel, "_configuration_files", lambda: [str(path)])
        assert _kernel.configuration() is None


@pytest.mark.needs("root")
class TestTracing:
    def test_root_is_not_told_to_get_what_it_has(self):
        assert "this process has CAP_SYS_PTRACE" in _tracing.how_to_look()
        assert "this process has CAP_SYS_PTRACE" in _tracing.how_to_take()

    def test_nobody_is_told_to_be_root(self):
        look, take = in_child(lambda: (_tracing.how_to_look(), _tracing.how_to_take()), user=NOBODY)
        assert look == "run this as root"
        assert take.startswith("run this as root, or as the user of that process")

    def test_root_without_it_is_told_to_get_it(self):
        def look():
            drop_capability_to_trace()
            return _tracing.how_to_look(), _tracing.how_to_take()

        for told in in_child(look):
            assert told.startswith("give this process CAP_SYS_PTRACE")

"""What dmabuf-alloc advises, by the kernel's own files."""

import errno
import gzip

import pytest

import dmabuf
from dmabuf.cli.checks import kernel
from dmabuf.cli.commands import check


class TestRemedy:
    @pytest.mark.parametrize(
        ("modules", "option", "remedy"),
        [
            (["udmabuf"], None, "run modprobe udmabuf"),
            (["udmabuf"], "m", "run modprobe udmabuf"),
            ([], "n", "boot a kernel with CONFIG_UDMABUF; CONFIG says that it was built without"),
            (None, "n", "boot a kernel with CONFIG_UDMABUF; CONFIG says that it was built without"),
            ([], None, "boot a kernel with CONFIG_UDMABUF; MODULES has no module udmabuf"),
            (None, None, "run modprobe udmabuf, or boot a kernel with CONFIG_UDMABUF"),
            ([], "y", "bring the node here: mount a devtmpfs, or start the container with"),
        ],
    )
    def test_what_the_kernels_files_say(self, monkeypatch, tmp_path, modules, option, remedy):
        monkeypatch.setattr(kernel, "_modules_folder", lambda: str(tmp_path))
        if modules is not None:
            lines = [f"kernel/drivers/dma-buf/{name}.ko.xz: x.ko\n" for name in modules]
            (tmp_path / "modules.dep").write_text("kernel/other.ko:\n" + "".join(lines))
        built = option and kernel.Configuration("CONFIG", {"CONFIG_UDMABUF": option})
        lacking = dmabuf.UnsupportedError(errno.ENOENT, "no such thing; it needs more; try this")
        advice = kernel.advise(check.candidates()[-1], lacking, built)
        assert advice.error == "no such thing"
        assert advice.remedy.replace(str(tmp_path), "MODULES").startswith(remedy)

    @pytest.mark.parametrize(("name", "opener"), [("config", open), ("config.gz", gzip.open)])
    def test_the_kernels_configuration(self, monkeypatch, tmp_path, name, opener):
        path = str(tmp_path / name)
        with opener(path, "wt") as file:
            file.write("# CONFIG_DMABUF_HEAPS is not set\nCONFIG_UDMABUF=m\nCONFIG_A=n\n")
        monkeypatch.setattr(kernel, "_configuration_files", lambda: ["/nonexistent", path])
        options = {"CONFIG_DMABUF_HEAPS": "n", "CONFIG_UDMABUF": "m"}
        built = kernel.configuration()
        assert built.path == path
        assert built.options | options == built.options
        assert set(built.options.values()) == {"n", "m"}

    def test_a_configuration_that_is_cut_off_is_passed_over(self, monkeypatch, tmp_path):
        path = tmp_path / "config.gz"
        path.write_bytes(gzip.compress(b"CONFIG_UDMABUF=m\n" * 1000)[:-20])
        monkeypatch.setattr(kernel, "_configuration_files", lambda: [str(path)])
        assert kernel.configuration() is None

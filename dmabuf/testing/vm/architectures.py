"""The processors whose programs a guest can run: what differs between them, in one table."""

from typing import NamedTuple


class Architecture(NamedTuple):
    """A processor's kernel, the machine that runs it, and where its programs find libraries."""

    kernel: str
    """Debian's name of the kernels: one of 64 bits runs programs of 32, too."""
    qemu: str
    """The program."""
    package: str
    """Debian's package of the program."""
    machine: tuple[str, ...]
    """The program's words for the board and the processor."""
    boot_options: tuple[str, ...]
    emulation_options: tuple[str, ...]
    """What an emulated kernel is told beside them."""
    has_bios: bool
    """Whether the board's firmware has set up a VGA card before the kernel sees it."""
    libraries: str
    """The folder's name in ``usr/lib``."""
    loader: str


_X86 = Architecture(
    kernel="amd64",
    qemu="qemu-system-x86_64",
    package="qemu-system-x86",
    machine=("-machine", "q35", "-cpu", "max"),
    boot_options=("console=ttyS0", "no_timer_check", "tsc=reliable", "random.trust_cpu=on"),
    # On a busy machine an emulated kernel now and then mistakes the rate of the processor's
    # counter, and its clock runs several times too fast: fences and tests would time out early.
    emulation_options=("clocksource=hpet",),
    has_bios=True,
    libraries="x86_64-linux-gnu",
    loader="lib64/ld-linux-x86-64.so.2",
)
ARCHITECTURES = {
    "amd64": _X86,
    "i386": _X86._replace(libraries="i386-linux-gnu", loader="lib/ld-linux.so.2"),
    # A processor that signs no pointers, as QEMU's best does: emulated, that takes time.
    "arm64": Architecture(
        kernel="arm64",
        qemu="qemu-system-aarch64",
        package="qemu-system-arm",
        machine=("-machine", "virt,gic-version=3", "-cpu", "cortex-a72"),
        boot_options=("console=ttyAMA0",),
        emulation_options=(),
        has_bios=False,
        libraries="aarch64-linux-gnu",
        loader="lib/ld-linux-aarch64.so.1",
    ),
}
OURS = "amd64"
"""That of the machine that it all runs on."""

"""QEMU: its command line, its process and the channels to it."""

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from dmabuf.testing.vm.architectures import Architecture
from dmabuf.testing.vm.processes import die_with_parent

SHARE_OPTIONS = "trans=virtio,version=9p2000.L,msize=512000"
BOOT_OPTIONS = ("panic=-1", "mitigations=off", "nokaslr")
# QEMU translates a program anew at each address where it is loaded: without random ones a program
# starts in half the time.
EMULATION_OPTIONS = ("norandmaps",)
# A PCI device that is nothing but memory, and the IOMMU that vfio-pci wants before it; that of the
# other devices stays out of their way.
VFIO_DEVICES = (
    *("-device", "intel-iommu"),
    *("-object", "memory-backend-ram,id=memory,size=1M,share=on"),
    *("-device", "ivshmem-plain,memdev=memory"),
)
VFIO_OPTIONS = ("intel_iommu=on", "iommu=pt")
VFIO_MODULES = ("vfio_pci", "vfio_iommu_type1")
# Port 0 of the bus is kept for a console. The guest's scripts count on these numbers.
PORTS = {"control": 1, "stdout": 2, "stderr": 3, "screendump": 4}


@dataclass(frozen=True)
class Machine:
    """What QEMU is started with."""

    architecture: Architecture
    image: Path
    initramfs: bytes
    memory: int
    cpus: int | None
    displays: tuple[str, ...]
    vfio: bool
    out: Path | None
    boot_options: tuple[str, ...]
    kvm: bool


@dataclass(frozen=True)
class Running:
    """A QEMU process and our ends of its channels: ``PORTS``, ``serial`` and ``monitor``."""

    process: "subprocess.Popen[bytes]"
    channels: dict[str, int]


@contextmanager
def start(machine: Machine) -> Iterator[Running]:
    """Run the machine; at the end of the scope it is gone, and nothing of it is left."""
    with ExitStack() as ours, ExitStack() as theirs:
        initramfs = os.memfd_create("initramfs")
        theirs.callback(os.close, initramfs)
        with open(initramfs, "wb", closefd=False) as file:
            file.write(machine.initramfs)
        near, far = {}, {}
        for name in ("serial", "monitor", *PORTS):
            near[name], far[name] = os.pipe() if name == "serial" else _socketpair()
            ours.callback(os.close, near[name])
            theirs.callback(os.close, far[name])
        process = subprocess.Popen(
            arguments(machine, initramfs, far),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=(initramfs, *far.values()),
            start_new_session=True,
            preexec_fn=die_with_parent,
        )
        theirs.close()
        try:
            yield Running(process, near)
        finally:
            process.kill()
            process.wait()


def arguments(machine: Machine, initramfs: int, channels: dict[str, int]) -> list[str]:
    """QEMU's command line; the initramfs and the channels are open descriptors."""
    kind = machine.architecture
    words = [kind.qemu, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]
    words += [*kind.machine, "-m", str(machine.memory), *_acceleration(machine)]
    words += ["-kernel", str(machine.image), "-initrd", f"/proc/self/fd/{initramfs}"]
    options = [*BOOT_OPTIONS, *kind.boot_options]
    if not machine.kvm:
        options += (*EMULATION_OPTIONS, *kind.emulation_options)
    words += ["-append", " ".join((*options, *machine.boot_options))]
    if machine.vfio:
        words += VFIO_DEVICES
    # A pipe, for a socket is full after some hundred of the single bytes that the serial port
    # writes, and it loses what does not fit.
    words += ["-chardev", f"file,id=serial,path=/proc/self/fd/{channels['serial']}"]
    for name in ("monitor", *PORTS):
        words += ["-chardev", f"socket,id={name},fd={channels[name]}"]
    words += ["-serial", "chardev:serial", "-mon", "chardev=monitor,mode=control"]
    words += ["-device", "virtio-serial-pci"]
    for name, port in PORTS.items():
        words += ["-device", f"virtserialport,chardev={name},nr={port},name={name}"]
    words += _share("root", Path("/"), ",readonly=on")
    if machine.out:
        words += _share("out", machine.out)
    for display in machine.displays:
        words += ["-device", display]
    return words


def has_kvm() -> bool:
    """Whether KVM should run a stock kernel: the device node alone does not say so."""
    flags = set(Path("/proc/cpuinfo").read_text().split())
    return bool(flags & {"vmx", "svm"}) and os.access("/dev/kvm", os.R_OK | os.W_OK)


def _acceleration(machine: Machine) -> list[str]:
    if machine.kvm:
        cpus = machine.cpus or min(4, len(os.sched_getaffinity(0)))
        return ["-accel", "kvm", "-smp", str(cpus)]
    # One thread for all emulated processors: with more, QEMU up to 8.0 can run outdated code when
    # one processor patches what another executes, and a kernel that flips a static key then dies
    # of "Oops: int3". With one thread, more processors bring nothing but waiting.
    return ["-accel", "tcg,thread=single", "-smp", str(machine.cpus or 1)]


def _share(tag: str, path: Path, options: str = "") -> list[str]:
    escaped = str(path).replace(",", ",,")
    backend = f"local,id={tag},path={escaped},security_model=none,multidevs=remap{options}"
    return ["-fsdev", backend, "-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}"]


def _socketpair() -> tuple[int, int]:
    near, far = socket.socketpair()
    return near.detach(), far.detach()

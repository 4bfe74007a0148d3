"""Run a command in the current folder under a stock Linux kernel, in a virtual machine."""

import argparse
import dataclasses
import os
import signal
import sys
import time
from pathlib import Path

from dmabuf.testing.vm import (
    conversation,
    distribution,
    initramfs,
    kernel,
    machine,
    screen,
    session,
    sources,
    tools,
    userlands,
)
from dmabuf.testing.vm.architectures import OURS
from dmabuf.testing.vm.failure import NOT_SET_UP, Failure, Interrupted, QemuFailed, catch_signals
from dmabuf.testing.vm.kernel import Kernel
from dmabuf.testing.vm.processes import open_standard_streams, program, say

EPILOG = """\
exit status: that of COMMAND, 128+N when signal N ended it, or
  124  the time ran out
  125  the machine could not be set up or did not boot
  126  the guest died before COMMAND ended (kernel panic, QEMU failed)

environment:
  DMABUF_VM_CACHE   keeps what was fetched, until removed (default: ~/.cache/dmabuf-vm)
  DMABUF_VM_MIRROR  the Debian mirror of kernels and userlands (default: the machine's own)
and set for COMMAND:
  DMABUF_VM             the kernel's NAME: this is the virtual machine
  DMABUF_VM_OUT         the folder given by --out
  DMABUF_VM_USERLAND    the NAME given by --userland
  DMABUF_VM_SCREENDUMP  with --display and --out: write "NAME.png\\n", read "ok\\n"

COMMAND sees the machine's own files, runs as the guest's root with an empty input, and
what it changes is gone when it ends, but for the folder given by --out.

With --userland it sees the files of a newer Debian instead, and of the machine's own the
current folder, /tmp and the folder given by --out. Its python3 finds the package dmabuf as it
is here, pytest and numpy.
"""
# Loaded where they are modules; elsewhere they are built in, or the kernel is without.
BOOT_MODULES = ("virtio_pci", "virtio_console", "9pnet_virtio", "9p", "overlay")
DEVICE_MODULES = ("vgem", "udmabuf", "system_heap", "cma_heap")
# Python's timers hold 24 days.
LONGEST = 1e6
# One device, without the controls that inject errors.
DEFAULT_PARAMETERS = {"vivid": "n_devs=1 no_error_inj=1"}


def main() -> int:
    """Boot, run the command, and return its exit status, or that of what kept it from running."""
    open_standard_streams()
    try:
        catch_signals()
        return run(parse_arguments())
    except Failure as failure:
        print(f"{program()}: {failure}", file=sys.stderr)
        return failure.status
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        print(f"{program()}: {place}{error.strerror}", file=sys.stderr)
        return NOT_SET_UP
    except Interrupted as interruption:
        signal.signal(interruption.number, signal.SIG_DFL)
        os.kill(os.getpid(), interruption.number)
        return 128 + interruption.number  # where the signal is blocked


def run(options: argparse.Namespace) -> int:
    """Boot, run the command, and return its exit status."""
    if (processor := os.uname().machine) != "x86_64":
        raise Failure(f"this machine is {processor}: stock kernels are booted on x86_64 only")
    environment = {**os.environ, "DMABUF_VM": options.kernel}
    kind = userlands.architecture(options.userland)
    if options.vfio and kind.kernel != OURS:
        raise Failure(f"--vfio: a machine for {kind.kernel} is given no such device")
    tools.require({kind.qemu: kind.package, **tools.PACKAGES})
    chosen = choose_kernel(options.kernel, kind.kernel)
    root = package = None
    if options.userland:
        root, package = userlands.get(options.userland), sources.folder()
        environment |= userlands.environment(options.userland, package)
    busybox = root / userlands.BUSYBOX if root and kind.kernel != OURS else tools.busybox()
    displays = screen.displays(chosen, display=options.display, gpu=options.gpu)
    dumps = bool(options.display and options.out)
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        environment["DMABUF_VM_OUT"] = str(options.out)
    if dumps:
        environment["DMABUF_VM_SCREENDUMP"] = screen.PORT
    # No command writes by chance what ends its output.
    token = f"\x01{os.urandom(16).hex()}"
    config = {
        "token": token,
        "release": chosen.release,
        "modules": str(chosen.modules or ""),
        "share_options": machine.SHARE_OPTIONS,
        "out": str(options.out or ""),
        "userland": str(root or ""),
        "package": str(package or ""),
        "folder": os.getcwd(),
        "screendump": screen.PORT if dumps else "",
        "vga": "" if kind.has_bios else screen.vga(displays),
    }
    names = [name for name in (*BOOT_MODULES, *DEVICE_MODULES) if chosen.has(name)]
    names += [display.driver for display in displays]
    names += machine.VFIO_MODULES if options.vfio else ()
    modules, parameters = chosen.drivers([*((name, "") for name in names), *options.module])
    script = session.script(options.command, environment)
    setup = machine.Machine(
        architecture=kind,
        image=chosen.image,
        initramfs=initramfs.build(busybox, modules, config | session.inherited(), script),
        memory=options.memory,
        cpus=options.cpus,
        displays=tuple(display.device for display in displays),
        vfio=options.vfio,
        out=options.out,
        boot_options=(
            *parameters,
            *(machine.VFIO_OPTIONS if options.vfio else ()),
            *options.append,
            *([] if options.verbose else ["quiet"]),
        ),
        kvm=kind.kernel == OURS and machine.has_kvm(),
    )
    deadline = time.monotonic() + options.timeout

    def attempt(setup: machine.Machine) -> int:
        with machine.start(setup) as running:
            dumper = screen.Screen(running.channels, options.out) if dumps else None
            talk = conversation.Conversation(running, token, dumper, verbose=options.verbose)
            return talk.status(deadline)

    try:
        return attempt(setup)
    except QemuFailed as failure:
        if not setup.kvm:
            raise
        say(f"{failure}; trying again without KVM")
        return attempt(dataclasses.replace(setup, kvm=False))


def declared() -> argparse.ArgumentParser:
    """The options, without the command to run."""
    parser = argparse.ArgumentParser(
        prog=program(),
        usage="%(prog)s [option…] -- COMMAND…",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = ", ".join(distribution.NAMES)
    parser.add_argument(
        "--kernel",
        default="6.12",
        metavar="NAME",
        help=f"one of {names} (this distribution's own), or the path of a bzImage (arm64: Image); "
        "default: 6.12",
    )
    parser.add_argument(
        "--userland",
        metavar="NAME",
        help="run COMMAND among the programs of a newer Debian, under a kernel of their "
        f"architecture: {', '.join(userlands.USERLANDS)}",
    )
    parser.add_argument(
        "--timeout",
        type=seconds,
        default=1800,
        metavar="S",
        help="seconds for boot and command; default: 1800",
    )
    parser.add_argument(
        "--memory", type=count, default=2048, metavar="MIB", help="the guest's; default: 2048"
    )
    parser.add_argument(
        "--cpus", type=count, metavar="N", help="default: up to 4 with KVM, 1 in emulation"
    )
    parser.add_argument(
        "--out",
        type=lambda path: Path(path).absolute(),
        metavar="DIR",
        help="a folder, made when it is missing, that the command can write to",
    )
    parser.add_argument(
        "--display",
        action="store_true",
        help="give the guest a display whose driver imports foreign buffers",
    )
    parser.add_argument(
        "--gpu",
        action="store_true",
        help="give the guest a virtio-gpu, whose driver has sync objects",
    )
    parser.add_argument(
        "--vfio",
        action="store_true",
        help="give the guest a PCI device with memory, behind an IOMMU, for vfio-pci",
    )
    parser.add_argument(
        "--module",
        action="append",
        default=[],
        type=module,
        metavar="'NAME [PARAM=VALUE…]'",
        help="load one more driver, with the modules that it needs, or set the parameters of one "
        "that is built in; can be repeated",
    )
    parser.add_argument(
        "--append",
        action="append",
        default=[],
        metavar="OPTION",
        help="add to the kernel's command line; can be repeated",
    )
    parser.add_argument("--verbose", action="store_true", help="show the kernel's log")
    return parser


def parse_arguments() -> argparse.Namespace:
    """What the user asks for."""
    parser, words = declared(), sys.argv[1:]
    end = words.index("--") if "--" in words else len(words)
    options = parser.parse_args(words[:end])
    options.command = words[end + 1 :]
    if not options.command:
        parser.error("a COMMAND must stand after --")
    return options


def seconds(text: str) -> float:
    """A time that can be waited for."""
    number = float(text)
    if not 0 < number <= LONGEST:
        raise argparse.ArgumentTypeError(f"{text} is not above 0 and at most {LONGEST:.0f} seconds")
    return number


def count(text: str) -> int:
    """A number of things of which there is one at least."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return number


def module(text: str) -> tuple[str, str]:
    """A driver's name and its parameters."""
    name, *parameters = text.split() or [""]
    if not name:
        raise argparse.ArgumentTypeError("a driver must be named")
    return name, " ".join(parameters) or DEFAULT_PARAMETERS.get(name, "")


def choose_kernel(name: str, architecture: str) -> Kernel:
    """The kernel that is meant by ``--kernel NAME``, by Debian's name of the architecture."""
    if name in distribution.NAMES:
        return distribution.get(name, architecture)
    if Path(name).is_file():
        return kernel.at(Path(name), architecture)
    raise Failure(f"--kernel {name}: no such file, nor one of {', '.join(distribution.NAMES)}")

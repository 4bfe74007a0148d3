"""Runs a command under another Linux kernel, in a virtual machine: what `dmabuf-vm` is made of.

    dmabuf-vm --kernel 6.12 --module vivid -- pytest

It needs QEMU and apt, both of which it says or installs, and nothing of this package's own
dependencies: the standard library is enough. See `dmabuf-vm --help`, and docs/testing.md.
"""

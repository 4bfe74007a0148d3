"""Runs a command under another kernel: the parts of ``scripts/vm``."""

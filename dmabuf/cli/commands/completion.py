"""`dmabuf-alloc completion`: the script that has a shell complete this command's words."""

from __future__ import annotations

import argparse

from dmabuf.cli.console.output import Output

SUMMARY = "Print the completion script for bash, zsh or fish."
EXAMPLES = (
    ("completion bash", 'in ~/.bashrc: eval "$(dmabuf-alloc completion bash)"'),
    ("completion zsh", 'in ~/.zshrc, after compinit: eval "$(dmabuf-alloc completion zsh)"'),
    ("completion fish", "in config.fish: dmabuf-alloc completion fish | source"),
)


def add(parser: argparse.ArgumentParser) -> None:
    """Declare its arguments."""
    parser.add_argument("shell", metavar="SHELL", choices=("bash", "zsh", "fish"), help="the shell")


def run(arguments: argparse.Namespace, output: Output) -> None:
    """Print the script."""
    from dmabuf.cli import shells

    script = {"bash": shells.bash, "zsh": shells.zsh, "fish": shells.fish}[arguments.shell]()
    output.lines(script)
    output.document(shell=arguments.shell, script=script)

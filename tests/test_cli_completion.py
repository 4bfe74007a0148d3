"""dmabuf-alloc completion, as the shells run it, and the manual pages."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from dmabuf.cli import commands, main
from dmabuf.cli.grammar import common, subcommands
from dmabuf.testing.vm import command

pytestmark = pytest.mark.needs("outside")  # it asks no kernel

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "dmabuf-alloc.1"
VM_PAGE = ROOT / "docs" / "dmabuf-vm.1"


@pytest.fixture
def script(capfd):
    """Return a function that gives the script for a shell."""

    def script(shell):
        assert main(["completion", shell]) == 0
        return capfd.readouterr().out

    return script


class Bash:
    """A shell that has read the script."""

    def __init__(self, script):
        self.script = script

    def __call__(self, *words):
        """Return what it offers for the last of these words."""
        program = (
            f"{self.script}\n"
            'COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); compopt() { :; }; _dmabuf_alloc\n'
            'printf "%s\\n" "${COMPREPLY[@]}"\n'
        )
        outcome = subprocess.run(
            ["bash", "--norc", "-euc", program, "bash", "dmabuf-alloc", *words],
            capture_output=True,
            text=True,
            check=True,
        )
        assert outcome.stderr == ""
        return set(outcome.stdout.splitlines()) - {""}


@pytest.fixture
def bash(script):
    return Bash(script("bash"))


class TestBash:
    def test_every_command_is_offered(self, bash):
        assert set(commands.NAMES) <= bash("")
        assert bash("ben") == {"bench"}

    @pytest.mark.parametrize("grammar", subcommands(), ids=lambda grammar: grammar.name)
    def test_every_option_of_a_command_is_offered(self, bash, grammar):
        offered = bash(grammar.name, "--")
        assert offered == {
            name for option in grammar.options for name in option.names if name[:2] == "--"
        }

    def test_shared_options_may_stand_before_the_command(self, bash):
        assert bash("--json", "--debug", "stres") == {"stress"}
        assert bash("--json", "bench", "--si") == {"--sizes"}

    def test_a_size_has_the_options_of_an_allocation(self, bash):
        assert bash("64M", "--fill-") == {"--fill-pattern", "--fill-from"}

    @pytest.mark.parametrize("words", [("--heap", ""), ("--heap", "="), ("--heap", "=", "")])
    def test_a_heap_is_one_of_this_machine(self, bash, words):
        nodes = set(os.listdir("/dev/dma_heap")) if os.path.isdir("/dev/dma_heap") else set()
        assert bash("bench", *words) == nodes | {"udmabuf"}

    def test_a_file_is_one_that_is_there(self, bash, tmp_path):
        (tmp_path / "with a space.png").touch()
        assert bash("bench", "--plot", f"{tmp_path}/w") == {f"{tmp_path}/with a space.png"}

    def test_a_user_is_one_of_this_machine(self, bash):
        assert "root" in bash("check", "--user", "roo")

    def test_a_shell_is_one_of_three(self, bash):
        assert {"bash", "zsh", "fish"} <= bash("completion", "")

    def test_nothing_is_offered_for_a_number(self, bash):
        assert bash("stress", "--rounds", "") == set()


@pytest.mark.needs("zsh")
def test_zsh_reads_its_script(script, tmp_path):
    path = tmp_path / "_dmabuf-alloc"
    path.write_text(script("zsh"))
    program = "autoload -Uz compinit; compinit -u -D; source $1; print $_comps[dmabuf-alloc]"
    answer = subprocess.run(
        ["zsh", "-fc", program, "zsh", str(path)], capture_output=True, text=True, check=True
    )
    assert (answer.stdout, answer.stderr) == ("_dmabuf-alloc\n", "")


@pytest.mark.needs("fish")
@pytest.mark.parametrize(
    ("line", "offers"),
    [
        ("be", {"bench"}),
        ("bench --si", {"--sizes"}),
        ("completion ", {"bash", "zsh", "fish"}),
        ("--json stres", {"stress"}),
    ],
)
def test_fish_completes(script, tmp_path, line, offers):
    (tmp_path / "script.fish").write_text(script("fish"))
    program = f"source {tmp_path}/script.fish; complete -C 'dmabuf-alloc {line}'"
    answer = subprocess.run(
        ["fish", "-Nc", program],
        env=os.environ | {"HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert {word.split("\t")[0] for word in answer.stdout.splitlines()} == offers


@pytest.mark.parametrize("words", ["tcsh", "", "bash zsh"])
def test_an_unknown_shell_is_one_line(capfd, words):
    assert main(["completion", *words.split()]) == 2
    out, err = capfd.readouterr()
    assert (out, err.count("\n")) == ("", 1)


class TestManual:
    def test_it_is_what_the_parsers_say(self, tmp_path):
        subprocess.run(
            [sys.executable, ROOT / "scripts" / "gen_manual", tmp_path],
            check=True,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        for page in (PAGE, VM_PAGE):
            assert page.read_text() == (tmp_path / page.name).read_text(), "run make manual"

    def test_it_has_every_option(self):
        text = PAGE.read_text().replace("\\-", "-")
        for grammar in (common(), *subcommands()):
            for option in grammar.options:
                assert re.search(rf"\\fB{re.escape(option.names[-1])}\\fR", text), option

    def test_that_of_the_virtual_machine_has_all_of_its_help(self):
        text = VM_PAGE.read_text().replace("\\-", "-").replace("\\(ti", "~").replace("\\e", "\\")
        for action in command.declared()._actions:
            assert re.search(rf"\\fB{action.option_strings[-1]}\\fR", text), action
        told = " ".join(re.sub(r"\\f[BR]|^\.\w+", "", text, flags=re.MULTILINE).split())
        for line in command.EPILOG.splitlines():
            assert " ".join(line.partition(": ")[2].split() or line.strip(":").split()[1:]) in told

    @pytest.mark.needs("groff")
    @pytest.mark.parametrize("page", [PAGE, VM_PAGE], ids=["dmabuf-alloc", "dmabuf-vm"])
    def test_groff_has_nothing_against_it(self, page):
        words = ["groff", "-man", "-ww", "-Tascii", page]
        answer = subprocess.run(words, capture_output=True, text=True, check=True)
        assert answer.stderr == ""
        assert page.stem in answer.stdout

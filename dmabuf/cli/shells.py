"""Completion for bash, zsh and fish: a script for each, made of the command's own words.

Values are completed by what stands for them in help: FILE, HEAP and USER, or the choices.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from dmabuf.cli.arguments import PROGRAM
from dmabuf.cli.commands import WITHOUT_NAME
from dmabuf.cli.grammar import Grammar, Word, common, subcommands

_HEAPS = "ls /dev/dma_heap 2>/dev/null; echo udmabuf"


def bash() -> str:
    """Return the script for bash 4 and later."""
    grammars = subcommands()
    values: dict[str, list[str]] = {}
    for grammar in _with_unnamed(grammars):
        for option in grammar.options:
            if option.value is not None:
                cases = [f"{grammar.name}:{name}" for name in option.names]
                values.setdefault(_bash_value(option), []).extend(cases)
    offers = [_bash_offer(grammar, ()) for grammar in grammars]
    offers.append(_bash_offer(_unnamed(grammars), [grammar.name for grammar in grammars]))
    return "\n".join(
        [
            f'# Completion of {PROGRAM} for bash: eval "$({PROGRAM} completion bash)"',
            "_dmabuf_alloc() {",
            "    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]}",
            '    local command="" n',
            "    COMPREPLY=()",
            '    if [[ $word == "=" ]]; then word=""',
            '    elif [[ $before == "=" ]]; then before=${COMP_WORDS[COMP_CWORD-2]}; fi',
            "    for ((n = 1; n < COMP_CWORD; n++)); do",
            "        case ${COMP_WORDS[n]} in",
            f"        {'|'.join(grammar.name for grammar in grammars)})",
            "            command=${COMP_WORDS[n]}; break ;;",
            "        esac",
            "    done",
            "    case $command:$before in",
            *(f"    {'|'.join(cases)})\n        {what}return ;;" for what, cases in values.items()),
            "    esac",
            "    case $command in",
            *offers,
            "    esac",
            "}",
            "_dmabuf_alloc_offer() {",
            "    local one",
            '    while IFS= read -r one; do COMPREPLY+=("$one"); done < <(compgen "$@" -- "$word")',
            "}",
            f"complete -F _dmabuf_alloc {PROGRAM}",
            "",
        ]
    )


def _bash_value(word: Word) -> str:
    """Return the commands that offer a value; none where it could be anything."""
    if word.choices:
        return f"_dmabuf_alloc_offer -W {shlex.quote(' '.join(word.choices))}; "
    known = {
        "FILE": "compopt -o filenames; _dmabuf_alloc_offer -f; ",
        "HEAP": f'_dmabuf_alloc_offer -W "$({_HEAPS})"; ',
        "USER": "_dmabuf_alloc_offer -u; ",
    }
    return known.get(word.value or "", "")


def _bash_offer(grammar: Grammar, more: Sequence[str]) -> str:
    names = [name for option in grammar.options for name in option.names]
    values = "".join(_bash_value(argument) for argument in grammar.arguments)
    words = shlex.quote(" ".join([*names, *more]))
    return f"    {grammar.name or '*'})\n        {values}_dmabuf_alloc_offer -W {words} ;;"


def zsh() -> str:
    """Return the script for zsh, to be evaluated or to be put into a folder of its fpath."""
    grammars = subcommands()
    names = "|".join(grammar.name for grammar in grammars)
    described = [f"    {shlex.quote(f'{grammar.name}:{grammar.summary}')}" for grammar in grammars]
    cases = []
    for grammar in _with_unnamed(grammars):
        specs = [shlex.quote(_zsh_option(option)) for option in grammar.options]
        specs += [shlex.quote(_zsh_argument(argument)) for argument in grammar.arguments]
        head = "" if grammar.name else "_describe -t commands command commands; "
        arguments = "\n".join(f"            {spec} \\" for spec in specs).removesuffix(" \\")
        cases.append(f"    ({grammar.name or '*'}) {head}_arguments -s \\\n{arguments} ;;")
    return "\n".join(
        [
            f"#compdef {PROGRAM}",
            f'# Completion of {PROGRAM} for zsh: eval "$({PROGRAM} completion zsh)"',
            "_dmabuf_alloc_heaps() {",
            f'    compadd -- ${{(f)"$({_HEAPS})"}}',
            "}",
            f"_{PROGRAM}() {{",
            "    local -a commands=(",
            *described,
            "    )",
            '    local command="" n',
            "    for ((n = 2; n < CURRENT; n++)); do",
            "        case ${words[n]} in",
            f"        ({names}) command=${{words[n]}}; words[n]=(); ((CURRENT--)); break ;;",
            "        esac",
            "    done",
            "    case $command in",
            *cases,
            "    esac",
            "}",
            f'if [[ $funcstack[1] == _{PROGRAM} ]]; then _{PROGRAM} "$@"',
            f"else compdef _{PROGRAM} {PROGRAM}; fi",
            "",
        ]
    )


def _zsh_option(option: Word) -> str:
    repeats = "*" if option.repeats else ""
    *_, name = option.names
    value = "" if option.value is None else f":{option.value}:{_zsh_value(option)}"
    return f"{repeats}{name}[{_zsh_words(option.words)}]{value}"


def _zsh_argument(argument: Word) -> str:
    repeats = "*" if argument.repeats else ""
    return f"{repeats}:{_zsh_words(argument.words)}:{_zsh_value(argument)}"


def _zsh_value(word: Word) -> str:
    if word.choices:
        return f"({' '.join(word.choices)})"
    known = {"FILE": "_files", "HEAP": "_dmabuf_alloc_heaps", "USER": "_users"}
    return known.get(word.value or "", "")


def _zsh_words(text: str) -> str:
    for special in ("\\", "[", "]", ":"):
        text = text.replace(special, f"\\{special}")
    return text


def fish() -> str:
    """Return the script for fish."""
    grammars = subcommands()
    names = " ".join(grammar.name for grammar in grammars)
    lines = [
        f"# Completion of {PROGRAM} for fish: {PROGRAM} completion fish | source",
        "function __dmabuf_alloc_is",
        "    for word in (commandline -opc)[2..-1]",
        f"        if contains -- $word {names}",
        "            test $word = $argv[1]",
        "            return",
        "        end",
        "    end",
        "    test $argv[1] = none",
        "end",
        f"complete -c {PROGRAM} -f",
    ]
    for grammar in grammars:
        lines.append(_fish("none", f"-a {grammar.name}", grammar.summary))
    for grammar in _with_unnamed(grammars):
        name = grammar.name or "none"
        for option in grammar.options:
            *_, last = option.names
            value = "" if option.value is None else f" {_fish_value(option)}"
            lines.append(_fish(name, f"-l {last.removeprefix('--')}{value}", option.words))
        for argument in grammar.arguments:
            if argument.choices or argument.value == "FILE":
                lines.append(_fish(name, _fish_value(argument), argument.words))
    return "\n".join([*lines, ""])


def _fish(command: str, what: str, words: str) -> str:
    told = words.replace("\\", "\\\\").replace("'", "\\'")
    return f"complete -c {PROGRAM} -n '__dmabuf_alloc_is {command}' {what} -d '{told}'"


def _fish_value(word: Word) -> str:
    if word.choices:
        return f"-x -a '{' '.join(word.choices)}'"
    known = {
        "FILE": "-r -F",
        "HEAP": f"-x -a '({_HEAPS})'",
        "USER": "-x -a '(__fish_complete_users)'",
    }
    return known.get(word.value or "", "-x")


def _unnamed(grammars: Sequence[Grammar]) -> Grammar:
    """Return what may come before a subcommand's name, or without any."""
    (unnamed,) = (grammar for grammar in grammars if grammar.name == WITHOUT_NAME)
    shared = common()
    known = {option.names for option in unnamed.options}
    more = tuple(option for option in shared.options if option.names not in known)
    return shared._replace(options=unnamed.options + more)


def _with_unnamed(grammars: Sequence[Grammar]) -> list[Grammar]:
    """Return them, and that without a name last: it is for all the rest."""
    return [*grammars, _unnamed(grammars)]

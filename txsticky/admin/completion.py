"""
What makes shells complete ``txsticky``, made of the subcommands, verbs and options that there are.

``eval "$(txsticky ctl --shell-completion bash)"``, the same for zsh, and
``txsticky ctl --shell-completion fish | source``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from .verbs import CTL, SUBCOMMANDS, VERBS

#: The numbers of the workers that there are, in any shell.
_NUMBERS: Final = "txsticky ctl workers 2>/dev/null | awk 'NR > 1 { print $1 }'"

#: The verbs that a number follows, as patterns of bash and zsh.
_NUMBERED: Final = "|".join(verb.name for verb in VERBS if verb.worker)
#: The subcommands beside ``ctl``.
_OTHERS: Final = tuple(command for command in SUBCOMMANDS if command is not CTL)
#: The options that an argument follows, and how fish is told: a file, or anything else.
_ARGUMENT: Final = {
    **dict.fromkeys(("--control", "--tls-cert", "--tls-key", "--machines-ca"), " -r"),
    **dict.fromkeys(("--bus", "--bind", "--machines-tls", "--status-port", "--cookie"), " -x"),
}


def bash() -> str:
    """For bash (bash(1), Programmable Completion)."""
    words = " ".join([*(verb.name for verb in VERBS), *CTL.options])
    others = "".join(
        f"""
    elif [[ ${{COMP_WORDS[1]}} == {command.name} && ${{COMP_WORDS[COMP_CWORD-1]}} != --* ]]; then
        words="{" ".join(command.options)}\""""
        for command in _OTHERS
    )
    return f"""\
_txsticky() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} words
    if (( COMP_CWORD == 1 )); then
        words="{" ".join(command.name for command in SUBCOMMANDS)}"
    elif [[ ${{COMP_WORDS[1]}} == ctl ]]; then
        case ${{COMP_WORDS[COMP_CWORD-1]}} in
            --control) return ;;
            --shell-completion) words="{" ".join(SHELLS)}" ;;
            {_NUMBERED}) words=$({_NUMBERS}) ;;
            *) words="{words}" ;;
        esac{others}
    fi
    COMPREPLY=($(compgen -W "$words" -- "$word"))
}}
complete -o default -F _txsticky txsticky
"""


def zsh() -> str:
    """For zsh (zshcompsys(1))."""
    verbs = "\n".join(f"        '{verb.name}:{_quoted(verb.help)}'" for verb in VERBS)
    others = "\n".join(
        f"    {command.name}) [[ $words[CURRENT-1] == --control ]] && _files ||"
        f" compadd -- {' '.join(command.options)}; return ;;"
        for command in _OTHERS
    )
    return f"""\
_txsticky() {{
    local -a verbs
    verbs=(
{verbs}
    )
    if (( CURRENT == 2 )); then
        compadd {" ".join(command.name for command in SUBCOMMANDS)}
        _files
        return
    fi
    case $words[2] in
    ctl) ;;
{others}
    *) return 1 ;;
    esac
    case $words[CURRENT-1] in
        --control) _files ;;
        --shell-completion) compadd {" ".join(SHELLS)} ;;
        {_NUMBERED}) compadd $({_NUMBERS}) ;;
        *) _describe verb verbs; compadd -- {" ".join(CTL.options)} ;;
    esac
}}
compdef _txsticky txsticky
"""


def fish() -> str:
    """For fish (complete(1))."""
    names = " ".join(verb.name for verb in VERBS)
    ctl = "__fish_seen_subcommand_from ctl"
    lines = [
        *(
            f"complete -c txsticky -n __fish_use_subcommand -a {command.name}"
            f" -d '{_quoted(command.help)}'"
            for command in SUBCOMMANDS
        ),
        *(
            f"complete -c txsticky -f -n '{ctl}; and not __fish_seen_subcommand_from {names}'"
            f" -a {verb.name} -d '{_quoted(verb.help)}'"
            for verb in VERBS
        ),
        f"complete -c txsticky -f -n '{ctl}; and __fish_seen_subcommand_from"
        f" {_NUMBERED.replace('|', ' ')}'"
        f' -a "({_NUMBERS.replace("$", chr(92) + "$")})"',
        f"complete -c txsticky -n '{ctl}' -l shell-completion -x -a '{' '.join(SHELLS)}'",
        *(
            f"complete -c txsticky -n '__fish_seen_subcommand_from {command.name}'"
            f" -l {name.removeprefix('--')}{_ARGUMENT.get(name, '')} -d '{_quoted(told)}'"
            for command in SUBCOMMANDS
            for name, told in command.options.items()
            if name != "--shell-completion"
        ),
    ]
    return "".join(f"{line}\n" for line in lines)


def _quoted(text: str) -> str:
    """A text inside single quotes."""
    return text.replace("'", "’")


SHELLS: Final[dict[str, Callable[[], str]]] = {"bash": bash, "zsh": zsh, "fish": fish}

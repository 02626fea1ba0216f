"""
What makes shells complete ``txsticky ctl``, made of the verbs and options that there are.

``eval "$(txsticky ctl --shell-completion bash)"``, the same for zsh, and
``txsticky ctl --shell-completion fish | source``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from .verbs import OPTIONS, VERBS

#: The numbers of the workers that there are, in any shell.
_NUMBERS: Final = "txsticky ctl workers 2>/dev/null | awk 'NR > 1 { print $1 }'"


def bash() -> str:
    """For bash (bash(1), Programmable Completion)."""
    words = " ".join([*(verb.name for verb in VERBS), *OPTIONS])
    numbered = "|".join(verb.name for verb in VERBS if verb.worker)
    return f"""\
_txsticky() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} words
    if (( COMP_CWORD == 1 )); then
        words=ctl
    elif [[ ${{COMP_WORDS[1]}} == ctl ]]; then
        case ${{COMP_WORDS[COMP_CWORD-1]}} in
            --control) return ;;
            --shell-completion) words="{" ".join(SHELLS)}" ;;
            {numbered}) words=$({_NUMBERS}) ;;
            *) words="{words}" ;;
        esac
    fi
    COMPREPLY=($(compgen -W "$words" -- "$word"))
}}
complete -o default -F _txsticky txsticky
"""


def zsh() -> str:
    """For zsh (zshcompsys(1))."""
    verbs = "\n".join(f"        '{verb.name}:{_quoted(verb.help)}'" for verb in VERBS)
    numbered = "|".join(verb.name for verb in VERBS if verb.worker)
    return f"""\
_txsticky() {{
    local -a verbs
    verbs=(
{verbs}
    )
    if (( CURRENT == 2 )); then
        compadd ctl
        _files
        return
    fi
    [[ $words[2] == ctl ]] || return 1
    case $words[CURRENT-1] in
        --control) _files ;;
        --shell-completion) compadd {" ".join(SHELLS)} ;;
        {numbered}) compadd $({_NUMBERS}) ;;
        *) _describe verb verbs; compadd -- {" ".join(OPTIONS)} ;;
    esac
}}
compdef _txsticky txsticky
"""


def fish() -> str:
    """For fish (complete(1))."""
    names = " ".join(verb.name for verb in VERBS)
    numbered = " ".join(verb.name for verb in VERBS if verb.worker)
    ctl = "__fish_seen_subcommand_from ctl"
    lines = [
        "complete -c txsticky -n __fish_use_subcommand -a ctl -d 'Steer a running cluster'",
        *(
            f"complete -c txsticky -f -n '{ctl}; and not __fish_seen_subcommand_from {names}'"
            f" -a {verb.name} -d '{_quoted(verb.help)}'"
            for verb in VERBS
        ),
        f"complete -c txsticky -f -n '{ctl}; and __fish_seen_subcommand_from {numbered}'"
        f' -a "({_NUMBERS.replace("$", chr(92) + "$")})"',
        f"complete -c txsticky -n '{ctl}' -l control -r -d '{_quoted(OPTIONS['--control'])}'",
        f"complete -c txsticky -n '{ctl}' -l json -d '{_quoted(OPTIONS['--json'])}'",
        f"complete -c txsticky -n '{ctl}' -l shell-completion -x -a '{' '.join(SHELLS)}'",
    ]
    return "".join(f"{line}\n" for line in lines)


def _quoted(text: str) -> str:
    """A text inside single quotes."""
    return text.replace("'", "’")


SHELLS: Final[dict[str, Callable[[], str]]] = {"bash": bash, "zsh": zsh, "fish": fish}

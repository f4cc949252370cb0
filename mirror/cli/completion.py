"""`mirror completion`: what a shell needs to complete verbs, options and the names of images."""

import os
from collections.abc import Iterable

import click

from mirror.cli import output, servers, transport
from mirror.cli.fields import Row, rows, text
from mirror.errors import MirrorError

_HOW = {
    "bash": "source <(mirror completion bash)",
    "zsh": "source <(mirror completion zsh)",
    "fish": "mirror completion fish | source",
}
_LOOKED_AT = 1000  # images; who has more types more
_ANSWERING_S = 1.0  # a shell waits for it, and a person for the shell

#: click's own takes a colon for the end of a word, as bash does: `alpine:3.<TAB>` would find nothing. This one looks at
#: the line, and gives back what comes after the last colon, which is what bash then replaces.
_BASH = r"""_mirror_completion() {
    local IFS=$' \t\n' line=${COMP_LINE:0:COMP_POINT} words current response type value
    read -ra words <<<"$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    current=${words[-1]}
    response=$(env COMP_WORDS="$line" COMP_CWORD=$((${#words[@]} - 1)) _MIRROR_COMPLETE=bash_complete "$1")
    COMPREPLY=()
    while IFS=',' read -r type value; do
        case $type in
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
            plain)
                [[ $COMP_WORDBREAKS == *:* && $current == *:* ]] && value=${value#"${current%"${current##*:}"}"}
                COMPREPLY+=("$value") ;;
        esac
    done <<<"$response"
}
complete -o nosort -F _mirror_completion mirror
"""


def held(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Names of held images that begin like this, from a mirror that runs; none where none does."""
    images = _images(ctx)
    return _fitting((f"{text(image, 'name')}:{text(image, 'tag')}" for image in images if image.get("tag")), incomplete)


def repositories(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """The same for repositories."""
    return _fitting((text(image, "name") for image in _images(ctx)), incomplete)


def queued(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """The same for the IDs of pushes that wait."""
    return _fitting((text(push, "id") for push in _asked(ctx, "/queue", "pushes")), incomplete)


def _images(ctx: click.Context) -> list[Row]:
    return _asked(ctx, "/images", "images")


def _asked(ctx: click.Context, path: str, key: str) -> list[Row]:
    try:
        server = servers.find(ctx.params.get("server"), os.environ)
        with transport.Api(server, transport.login_for(server, os.environ), patience=_ANSWERING_S) as api:
            return rows(api.get(path, {"limit": _LOOKED_AT}), key)
    except MirrorError:
        return []


def _fitting(names: Iterable[str], incomplete: str) -> list[str]:
    found = dict.fromkeys(name for name in names if name.startswith(incomplete))
    return [name for name in found if output.escape(name) == name and not any(map(str.isspace, name))]


@click.command(epilog="  ".join(f"{shell}: `{how}`." for shell, how in _HOW.items()))
@click.argument("shell", type=click.Choice(list(_HOW)))
@click.pass_context
def completion(ctx: click.Context, *, shell: str) -> None:
    """Print a shell's completion script.

    Load it in the shell's start-up file.
    """
    if shell == "bash":
        output.result(_BASH)
        return
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"there is no completion for {shell}")
    output.result(kind(ctx.find_root().command, {}, "mirror", "_MIRROR_COMPLETE").source())

"""Asking for a user name and a password: at a terminal, or on standard input for scripts; never on the command line,
where every other user of the machine could read them."""

import sys

import click

from mirror.errors import RequestInvalid

_LIMIT = 64 << 10


def username(given: str | None, *, stdin_taken: bool) -> str:
    """The one given, else what a person writes."""
    if given is None and stdin_taken:
        raise click.UsageError("Must provide --username with --password-stdin.")
    if given is None:
        check_terminal()
        click.echo("Username: ", nl=False, err=True)
        given = sys.stdin.readline().strip()
    if not given:
        raise RequestInvalid("a user name is required")
    if ":" in given:
        raise RequestInvalid("a user name cannot hold a colon (RFC 7617)")
    return given


def password(*, from_stdin: bool, confirm: bool = False) -> str:
    """From standard input without its line's end, else from the terminal, unseen; `confirm`: a new one, which is asked
    for twice."""
    if from_stdin:
        given = _from_stdin()
    else:
        check_terminal(new=confirm)
        given = _hidden("Password: ")
        if given and confirm and _hidden("Again: ") != given:
            raise RequestInvalid("the two passwords are not the same")
    if not given:
        raise RequestInvalid("a password is required")
    return given


def check_terminal(*, new: bool = False) -> None:
    """A usage error where nobody can be asked: docker's sentence for a login; for a `new` password one of ours."""
    if sys.stdin.isatty():
        return
    if new:
        raise click.UsageError("Cannot ask for a password on a non TTY device: give --password-stdin.")
    raise click.UsageError(
        "Cannot perform an interactive login from a non TTY device: give --username and --password-stdin."
    )


def _from_stdin() -> str:
    data = sys.stdin.buffer.read(_LIMIT + 1)
    if len(data) > _LIMIT:
        raise RequestInvalid("what standard input holds is too long for a password")
    try:
        return data.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise RequestInvalid("the password on standard input is not UTF-8") from None


def _hidden(prompt: str) -> str:
    import getpass

    try:
        return getpass.getpass(prompt, stream=sys.stderr)
    except EOFError:
        return ""

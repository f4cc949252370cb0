"""What a person writes for an image, as far as the command itself has to know: the mirror decides what it means."""

from collections.abc import Sequence

from mirror.cli.output import escape, note
from mirror.errors import NameInvalid


def tagged(text: str) -> bool:
    """Whether a tag or a digest is written."""
    return "@" in text or ":" in text.rpartition("/")[2]


def registry_of(term: str) -> tuple[str | None, str]:
    """The registry before a search term, and the term: `ghcr.io/x` is a search for `x` at ghcr.io."""
    first, slash, rest = term.partition("/")
    return (first, rest) if slash and ("." in first or ":" in first or first == "localhost") else (None, term)


def remark_default_tags(references: Sequence[str]) -> None:
    """Docker's sentence, once, where a name leaves the tag to it. What is no name is left to the mirror to refuse."""
    if any(not tagged(text) and _is_name(text) for text in references):
        note("Using default tag: latest")


def check_name(text: str) -> None:
    """Refuse what is no name before anybody is asked. Raises `NameInvalid` with the text in its message."""
    from mirror.oci.names import Reference

    try:
        Reference.parse(text)
    except NameInvalid as error:
        raise NameInvalid(f"{escape(text)}: {error.message}") from error


def _is_name(text: str) -> bool:
    try:
        check_name(text)
    except NameInvalid:
        return False
    return True

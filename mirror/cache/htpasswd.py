"""The htpasswd file: a line per user, `name:hash`, bcrypt only (as `htpasswd -B` writes it and registries read it).

Texts in, texts out; reading and writing the file block, and are for threads.
"""

import os
import re
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

MOST_COST = 16  # 2^16 rounds take some 4 s: a hash that costs more would stop everybody's checks
_BCRYPT = re.compile(r"\$2[aby]\$(\d\d)\$[./A-Za-z0-9]{53}")
_LEAST_COST = 4  # bcrypt's own


@dataclass(frozen=True, slots=True)
class Passwords:
    """The hash of each user, and the lines that give none, each in words that tell no secret."""

    hashes: Mapping[str, bytes]
    refused: tuple[str, ...] = ()


def parse(text: str) -> Passwords:
    """What a file says. Of two lines for one user the first counts."""
    hashes: dict[str, bytes] = {}
    refused = []
    for number, line in enumerate(text.splitlines(), 1):
        name, colon, rest = line.strip().partition(":")
        if (not name and not colon) or name.startswith("#"):
            continue
        problem = _problem(name, rest.strip(), hashes, colon=bool(colon))
        if problem is None:
            hashes[name] = rest.strip().encode()
        else:
            refused.append(f"line {number} ({_shown(name) if colon else 'no colon'}): {problem}")
    return Passwords(hashes, tuple(refused))


def _problem(name: str, password_hash: str, known: Mapping[str, bytes], *, colon: bool) -> str | None:
    if not colon or not name:
        return "is no name:hash"
    match = _BCRYPT.fullmatch(password_hash)
    if match is None:
        return "only bcrypt is accepted; give the user a new password with `mirror user add` or `htpasswd -B`"
    if not _LEAST_COST <= int(match[1]) <= MOST_COST:
        return f"a cost of {match[1]} is not between {_LEAST_COST} and {MOST_COST}"
    if name in known:
        return "stands there twice; the first line counts"
    return None


def _shown(name: str) -> str:
    return "".join(each if each.isprintable() else "?" for each in name[:50])


def with_user(text: str, name: str, password_hash: bytes) -> str:
    """The same file with this user's hash, in his line if he has one, else at the end."""
    line = f"{name}:{password_hash.decode()}\n"
    lines = text.splitlines(keepends=True)
    places = _places(lines, name)
    if not places:
        if lines and not lines[-1].endswith("\n"):
            lines[-1] += "\n"
        return "".join([*lines, line])
    lines[places[0]] = line
    return "".join(each for place, each in enumerate(lines) if place not in places[1:])


def without_user(text: str, name: str) -> str | None:
    """The same file without this user; None where he has no line."""
    lines = text.splitlines(keepends=True)
    places = _places(lines, name)
    if not places:
        return None
    return "".join(each for place, each in enumerate(lines) if place not in places)


def _places(lines: list[str], name: str) -> list[int]:
    return [place for place, line in enumerate(lines) if ":" in line and line.strip().partition(":")[0] == name]


# --- the file ---------------------------------------------------------------------------------------------

Signature = tuple[int, int, int, int]


def signature(path: Path) -> Signature | None:
    """What changes when the file does; None where there is none. Raises OSError."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def read(path: Path) -> str:
    """The text; empty where there is no file. Raises OSError."""
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape")
    except FileNotFoundError:
        return ""


def write(path: Path, text: str) -> None:
    """Put `text` in the file's place, whole or not at all, readable by its owner only. Raises OSError."""
    target = Path(os.path.realpath(path))  # a link stays a link
    descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)  # made 0600
    try:
        with open(descriptor, "w", encoding="utf-8", errors="surrogateescape") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(name, target)
    except BaseException:
        with suppress(OSError):
            os.unlink(name)
        raise
    folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)

"""From file, environment and flags to `Settings`: flags win, then environment, then file, then defaults.

Everything that is wrong is said at once, one line each: where it stands, the key, what was found, what is allowed.
"""

import difflib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from mirror.config.checks import cross_checks
from mirror.config.layers import Layer, Problem, find_file, from_environment, from_file, from_flags, section_of
from mirror.config.model import KeyPath, Settings
from mirror.config.paths import SYSTEM_DATA
from mirror.config.registries import WELL_KNOWN
from mirror.config.toml import toml_key, toml_value
from mirror.config.values import Allowed, mask
from mirror.errors import ConfigInvalid

SYSTEM_FILE = Path("/etc/mirror/mirror.toml")
DEFAULT = "default"
OUT_OF_THE_BOX = "well-known"
_SHOWN = 80  # characters of a wrong value that a message repeats
_SECRETS = ("password", "password_file")

Leaves = dict[KeyPath, tuple[Any, str]]


def load(config_file: Path | None, environ: Mapping[str, str], flags: Mapping[str, object]) -> Settings:
    """The settings in force. `flags` are by setting, None where not given; the file is `config_file`, else
    `MIRROR_CONFIG`'s, else `/etc/mirror/mirror.toml` where it is there. Raises `ConfigInvalid`.
    """
    file = find_file(config_file, environ, SYSTEM_FILE)
    layers = [from_file(file)] if file is not None else []
    layers += [from_environment(environ), from_flags(flags)]
    leaves = _merge(layers)
    problems = [problem for layer in layers for problem in layer.problems]
    problems += _complete(leaves, layers, environ)
    try:
        settings = Settings.model_validate(_nested(leaves))
    except ValidationError as error:
        problems += _wrong_values(error.errors(include_url=False), leaves)
    else:
        origins = {key: origin for key, (_, origin) in leaves.items() if origin != DEFAULT}
        remarks = [str(remark) for layer in layers for remark in layer.remarks]
        settings = settings.with_origins(origins, file, remarks)
        problems += cross_checks(settings)
        if not problems:
            return settings
    raise ConfigInvalid("\n".join(dict.fromkeys(map(str, problems))))


def default_data(environ: Mapping[str, str], uid: int) -> Path:
    """Where data lies unless told: root's or the service's `/var/lib/mirror`, a user's `$XDG_DATA_HOME/mirror`."""
    state = Path(environ.get("STATE_DIRECTORY", "").split(":")[0])
    if state.is_absolute() and state.name == "mirror":  # set by systemd for StateDirectory=mirror
        return state
    if uid == 0:
        return SYSTEM_DATA
    home = Path(environ.get("XDG_DATA_HOME", ""))
    if not home.is_absolute():  # as the XDG specification wants it
        home = Path(environ.get("HOME", "") or Path.home()) / ".local" / "share"
    return home / "mirror"


def _merge(layers: Sequence[Layer]) -> Leaves:
    """Later layers win, key by key; a password from one takes the place of a file from another, and back."""
    leaves: Leaves = {}
    for layer in layers:
        for path in layer.leaves:
            if path[-1] in _SECRETS:
                for secret in _SECRETS:
                    leaves.pop((*path[:-1], secret), None)
        leaves.update(layer.leaves)
    return leaves


def _complete(leaves: Leaves, layers: Sequence[Layer], environ: Mapping[str, str]) -> Iterator[Problem]:
    """Add what nobody has to write. A registry without a URL is a problem, and gets one so as to be read on."""
    leaves.setdefault(("data",), (default_data(environ, os.geteuid()), DEFAULT))
    for registry, url in WELL_KNOWN.items():
        leaves.setdefault(("registries", registry, "url"), (url, OUT_OF_THE_BOX))
    mentioned = {registry: origin for layer in layers for registry, origin in layer.registries.items()}
    for registry, origin in mentioned.items():
        path = ("registries", registry, "url")
        if path not in leaves:
            example = f'url = "https://{registry}"'
            yield Problem(
                origin, toml_key(*path), f"missing; this registry is not a well-known one, so write {example}"
            )
            leaves[path] = (f"https://{registry}", origin)


def _nested(leaves: Leaves) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for path, (value, _) in leaves.items():
        table = nested
        for part in path[:-1]:
            table = table.setdefault(part, {})
        table[path[-1]] = value
    return nested


# --- wrong values -----------------------------------------------------------------------------------------


def _wrong_values(errors: Sequence[ErrorDetails], leaves: Leaves) -> Iterator[Problem]:
    """One problem per key: pydantic reports each branch of a union by itself."""
    by_key: dict[KeyPath, list[ErrorDetails]] = {}
    for error in errors:
        depth = {"registries": 3, "access": 2}.get(str(error["loc"][0]), 1)
        by_key.setdefault(tuple(map(str, error["loc"][:depth])), []).append(error)
    for path, found in by_key.items():
        yield Problem(_origin(path, leaves), toml_key(*path), _sentence(path, found, leaves))


def _origin(path: KeyPath, leaves: Leaves) -> str:
    """Where the key was set; for a whole section, where it was last touched by somebody."""
    touched = [origin for key, (_, origin) in leaves.items() if key[: len(path)] == path]
    return next((origin for origin in reversed(touched) if origin != OUT_OF_THE_BOX), DEFAULT)


def _sentence(path: KeyPath, errors: Sequence[ErrorDetails], leaves: Leaves) -> str:
    for error in errors:
        if error["type"] == "value_error":  # one of our own checks, which says it all
            return str(error["ctx"]["error"])
    value, _ = leaves[path]
    allowed = _allowed(path)
    sentence = f"found {_found(path, value)}, allowed: {allowed}"
    if isinstance(value, str):
        words = [word for word in (part.strip(' "') for part in allowed.split('"')) if word.isalpha()]
        nearest = difflib.get_close_matches(value.lower(), words, n=1)
        if nearest:
            sentence += f'; did you mean "{nearest[0]}"?'
    return sentence


def _found(path: KeyPath, value: object) -> str:
    if path[-1] == "password":
        return "a value that is no text"
    shown = mask(toml_value(value))
    return shown if len(shown) <= _SHOWN else shown[: _SHOWN - 1] + "…"


def _allowed(path: KeyPath) -> str:
    field = section_of(path).model_fields[path[-1]]
    return next((note.text for note in _notes(field) if isinstance(note, Allowed)), "another kind of value")


def _notes(field: FieldInfo) -> Iterator[object]:
    """A field's annotations; those of `X | None` stand on X."""
    yield from field.metadata
    for branch in getattr(field.annotation, "__args__", ()):
        yield from getattr(branch, "__metadata__", ())

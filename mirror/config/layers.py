"""Where settings come from: a TOML file, the environment, flags. Each becomes a `Layer`: flat keys, each with its
value and the words for where it stood. Wrong keys are found here, wrong values by the model.
"""

import difflib
import json
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mirror.config.model import ENVIRONMENT, AccessSettings, KeyPath, RegistrySettings, Settings
from mirror.config.toml import toml_key, toml_value
from mirror.config.values import check_host
from mirror.errors import ConfigInvalid

PREFIX = "MIRROR_"
PATH_KEYS = frozenset({
    "data", "socket", "access_log", "password_file", "ca_file", "tls_cert", "tls_key", "htpasswd",
})  # fmt: skip
_LISTS = frozenset({"listen", "listen_login", "own"})  # in a variable: separated by commas
STANDARD_ERROR = "-"  # the one path that is none
#: Read by others: the file's name here, the command line's server.
_OTHER_VARIABLES = ("CONFIG", "SERVER")
#: What Kubernetes sets in every container beside a Service named `mirror`.
_SERVICE_LINKS = re.compile(r"(SERVICE_(HOST|PORT(_\w+)?)|PORT(_\d+_\w+)?)")
_YES, _NO = frozenset({"1", "true", "yes", "on"}), frozenset({"0", "false", "no", "off"})
_NUMBER = re.compile(r"\d+(\.\d+)?")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: where it stands, which key, and what is wrong and allowed, in words."""

    origin: str
    key: str
    text: str

    def __str__(self) -> str:
        return ": ".join(part for part in (self.origin, self.key, self.text) if part)


@dataclass(slots=True)
class Layer:
    """What one source says. `leaves` maps a key to its value and origin; `registries` those it mentions at all;
    `remarks` are on what may be a mistake, or somebody else's."""

    leaves: dict[KeyPath, tuple[Any, str]] = field(default_factory=dict)
    registries: dict[str, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    remarks: list[Problem] = field(default_factory=list)

    def add(self, values: Mapping[str, Any], origin: str, base: Path) -> None:
        """Take in `values`, nested as in the file. Relative paths are meant below `base`."""
        for key, value in values.items():
            if key == "registries":
                self._add_registries(value, origin, base)
            elif key == "access":
                if self._is_table(("access",), value, origin):
                    self._add_section(("access",), value, origin, base)
            else:
                self._add_leaf((key,), value, origin, base)

    def _add_registries(self, tables: Any, origin: str, base: Path) -> None:
        if not self._is_table(("registries",), tables, origin):
            return
        for name, table in tables.items():
            path = ("registries", name)
            if not self._is_table(path, table, origin):
                continue
            unquoted = _unquoted(name, table)
            if unquoted is not None:
                self._wrong(path, f'the name has to stand in quotes: write [registries."{unquoted}"]', origin)
                continue
            try:
                registry = check_host(name)
            except ValueError as error:
                self._wrong(path, str(error), origin)
                continue
            if registry in self.registries:
                self._wrong(path, f'the registry "{registry}" stands there twice', origin)
                continue
            self.registries[registry] = origin
            self._add_section(("registries", registry), table, origin, base)

    def _add_section(self, path: KeyPath, table: Mapping[str, Any], origin: str, base: Path) -> None:
        for key, value in table.items():
            self._add_leaf((*path, key), value, origin, base)

    def _add_leaf(self, path: KeyPath, value: Any, origin: str, base: Path) -> None:
        known = section_of(path).model_fields
        if path[-1] not in known:
            self._wrong(path, _unknown_key(path, known), origin)
            return
        if path[-1] in PATH_KEYS and isinstance(value, (str, Path)):
            if not str(value):
                self._wrong(path, "the path is empty; write one, or leave the key out", origin)
                return
            value = _absolute(str(value), base)
        self.leaves[path] = (value, origin)

    def _is_table(self, path: KeyPath, value: Any, origin: str) -> bool:
        if isinstance(value, Mapping):
            return True
        shown = f'[{toml_key(*path[:1])}."docker.io"]' if path == ("registries",) else f"[{toml_key(*path)}]"
        found = toml_value(value) if isinstance(value, (bool, int, float)) else "another value"
        self._wrong(path, f"found {found}, allowed: a table, {shown}", origin)
        return False

    def _wrong(self, path: KeyPath, text: str, origin: str) -> None:
        self.problems.append(Problem(origin, toml_key(*path), text))


def _absolute(text: str, base: Path) -> Path:
    if text == STANDARD_ERROR:
        return Path(text)
    try:
        return base / Path(text).expanduser()
    except RuntimeError:  # ~name of nobody: taken as written, and not found later
        return base / text


def _unquoted(name: str, table: Mapping[str, Any]) -> str | None:
    """The host meant by `[registries.docker.io]`, which TOML reads as a table `io` in a table `docker`."""
    parts = [name]
    while len(table) == 1 and "." not in name and ":" not in name:
        ((key, inner),) = table.items()
        if not isinstance(inner, Mapping):
            break
        parts.append(key)
        table = inner
    return ".".join(parts) if len(parts) > 1 else None


# --- keys -------------------------------------------------------------------------------------------------


def section_of(path: KeyPath) -> type[Settings | AccessSettings | RegistrySettings]:
    """The model whose field the last part of a key is."""
    match path:
        case ("access", _):
            return AccessSettings
        case ("registries", _, _):
            return RegistrySettings
        case _:
            return Settings


def _unknown_key(path: KeyPath, known: Iterable[str]) -> str:
    key = path[-1].replace("-", "_").lower()
    nearest = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
    if nearest:
        return f'no such key; did you mean "{nearest[0]}"?'
    if len(path) > 1 and key in Settings.model_fields:
        return f'"{key}" belongs to no table: move it to the top, above the first [table]'
    if key in RegistrySettings.model_fields:
        return f'"{key}" belongs to a registry: move it below [registries."docker.io"], or whichever is meant'
    return f"no such key; allowed: {', '.join(known)}"


# --- the three sources ------------------------------------------------------------------------------------


def from_file(file: Path) -> Layer:
    """A TOML file's layer. Raises `ConfigInvalid` where it cannot be read or is no TOML."""
    try:
        with file.open("rb") as stream:
            values = tomllib.load(stream)
    except OSError as error:
        raise ConfigInvalid(f"{file}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ConfigInvalid(f"{file}: is no UTF-8 text: byte {error.start} is wrong") from error
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigInvalid(f"{file}: is no TOML: {error}") from error
    layer = Layer()
    layer.add(values, str(file), file.absolute().parent)
    return layer


def from_environment(environ: Mapping[str, str]) -> Layer:
    """The layer of `MIRROR_…` variables. One that is empty counts as not set."""
    layer = Layer()
    for key in Settings.model_fields:
        name = PREFIX + key.upper()
        text = environ.get(name, "")
        if not text:
            continue
        origin = ENVIRONMENT + name
        try:
            value = _from_text(key, text)
        except ValueError as error:
            layer.problems.append(Problem(origin, "", str(error)))
            continue
        layer.add({key: value}, origin, Path.cwd())
    for name in sorted(environ):
        _look_at_unknown(name, layer)
    return layer


def _from_text(key: str, text: str) -> Any:
    """The value that a variable's text means. Raises ValueError; never with the text of JSON, which holds secrets."""
    if key in ("access", "registries"):
        try:
            return json.loads(text)
        except (json.JSONDecodeError, RecursionError) as error:
            where = f" at character {error.pos}" if isinstance(error, json.JSONDecodeError) else ""
            raise ValueError(f"is no JSON{where}; write an object such as {_JSON_EXAMPLES[key]}") from None
    if key in _LISTS:
        return tuple(entry.strip() for entry in text.split(",") if entry.strip())
    if Settings.model_fields[key].annotation is bool:
        return _switch(text)
    if Settings.model_fields[key].annotation is float and _NUMBER.fullmatch(text):
        return float(text)
    return text


_JSON_EXAMPLES = {
    "access": '{"loopback": "pull"}',
    "registries": '{"docker.io": {"tag_ttl": "5m"}}',
}


def _switch(text: str) -> bool:
    if text.lower() in _YES | _NO:
        return text.lower() in _YES
    raise ValueError(f"found {text!r}, allowed: true or false")


def _look_at_unknown(name: str, layer: Layer) -> None:
    """A variable one slip away from a known one is a mistake. Others may be somebody else's, and are a remark, but for
    those that are known to be: Kubernetes sets `MIRROR_PORT`."""
    key = name.removeprefix(PREFIX)
    known = [*map(str.upper, Settings.model_fields), *_OTHER_VARIABLES]
    if key == name or key in known or _SERVICE_LINKS.fullmatch(key):
        return
    close = difflib.get_close_matches(key.upper(), known, n=1, cutoff=0.8)
    if close:
        text = f"no such setting; did you mean {PREFIX}{close[0]}?"
        layer.problems.append(Problem(ENVIRONMENT + name, "", text))
        return
    (nearest,) = difflib.get_close_matches(key.upper(), known, n=1, cutoff=0.0)
    text = f"no such setting, and left alone; the nearest is {PREFIX}{nearest}"
    layer.remarks.append(Problem(ENVIRONMENT + name, "", text))


def from_flags(flags: Mapping[str, object]) -> Layer:
    """The layer of command-line flags, by setting; None and an empty list mean "not given"."""
    layer = Layer()
    for key, value in flags.items():
        if value is not None and value != ():
            layer.add({key: value}, "--" + key.replace("_", "-"), Path.cwd())
    return layer


def find_file(explicit: Path | None, environ: Mapping[str, str], system_file: Path) -> Path | None:
    """The file to read: the flag's, else `MIRROR_CONFIG`'s, else the system's where this user can read it."""
    if explicit is not None:
        return explicit
    named = environ.get(f"{PREFIX}CONFIG", "")
    if named:
        return Path(named).expanduser()
    return system_file if os.access(system_file, os.R_OK) else None

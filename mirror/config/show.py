"""The settings in force as TOML, each with a comment that says where it comes from. Secrets are hidden."""

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr

from mirror.config.access import AccessRule
from mirror.config.model import KeyPath, Settings
from mirror.config.sizes import Reserve, format_size
from mirror.config.toml import toml_key, toml_value
from mirror.config.values import HIDDEN, format_duration, mask

_DURATIONS = frozenset({"private_stale", "tag_ttl", "connect_timeout", "idle_timeout"})
_COMMENT_COLUMN = 44


def describe(settings: Settings) -> str:
    """TOML text that `load` reads as the same settings, but for the hidden secrets.

    Of a registry only what was set is shown; the rest is as `config/mirror.example.toml` says.
    """
    lines = list(_section(settings, (), settings, everything=True))
    lines += ["", "[access]", *_section(settings, ("access",), settings.access, everything=True)]
    for rule in settings.access.rules:
        lines += ["", *_rule(rule, settings.origins.get(("access", "rules"), "default"))]
    for name, registry in settings.registries.items():
        path = ("registries", name)
        lines += ["", f"[{toml_key(*path)}]", *_section(settings, path, registry, everything=False)]
    return "\n".join(lines) + "\n"


def _section(settings: Settings, path: KeyPath, section: BaseModel, *, everything: bool) -> Iterator[str]:
    for key, field in type(section).model_fields.items():
        value = getattr(section, key)
        if isinstance(value, (BaseModel, dict)) or key == "rules":
            continue
        origin = settings.origins.get((*path, key))
        if origin is None and not everything and value == field.default:
            continue
        yield _line(key, value, origin or "default")


def _rule(rule: AccessRule, origin: str) -> Iterator[str]:
    yield "[[access.rules]]"
    for field in fields(rule):
        yield _line(field.name, getattr(rule, field.name), origin)


def _line(key: str, value: Any, origin: str) -> str:
    if value is None:
        return f"# {key} is not set"
    text = f"{key} = {_shown(key, value)}"
    return f"{text:<{_COMMENT_COLUMN}}  # {_one_line(origin)}"


def _shown(key: str, value: Any) -> str:
    if isinstance(value, SecretStr):
        return toml_value(HIDDEN)
    if key in _DURATIONS:
        return toml_value(format_duration(value))
    if key == "max_size":
        return toml_value(format_size(value))
    if isinstance(value, (Path, Reserve)):
        return toml_value(str(value))
    return mask(toml_value(value))


def _one_line(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)

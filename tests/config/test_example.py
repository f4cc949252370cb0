"""`config/mirror.example.toml` and the model say the same."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from mirror.config import load as load_module
from mirror.config.layers import from_file
from mirror.config.load import load
from mirror.config.model import AccessSettings, RegistrySettings, Settings
from mirror.config.paths import SYSTEM_DATA
from mirror.config.registries import WELL_KNOWN
from mirror.config.sizes import Reserve, parse_reserve
from mirror.config.values import parse_duration

EXAMPLE = Path(__file__).parents[2] / "config" / "mirror.example.toml"
SETTING = re.compile(r"^#(?=[a-z_]+ = |\[)", re.MULTILINE)

#: Keys that may not stand together, or name files of nobody's machine, or examples of keys that default to nothing.
WITHOUT_DEFAULT = {
    *("socket", "socket_group", "access_log", "username", "password", "password_file", "proxy", "ca_file"),
    *("tls_cert", "tls_key", "max_size", "htpasswd", "rules"),
}


@pytest.fixture(scope="module")
def everything() -> dict[str, Any]:
    """The example with every setting in force."""
    return tomllib.loads(SETTING.sub("", EXAMPLE.read_text()))


def test_it_loads_as_it_is_and_changes_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(load_module, "SYSTEM_FILE", tmp_path / "none.toml")
    assert load(EXAMPLE, {}, {}).model_dump() == load(None, {}, {}).model_dump()


def test_every_setting_stands_in_it_and_nothing_else(everything: dict[str, Any]) -> None:
    assert set(everything) == set(Settings.model_fields)
    assert set(everything["access"]) == set(AccessSettings.model_fields)
    assert set(everything["registries"]["docker.io"]) == set(RegistrySettings.model_fields)


def test_every_setting_is_explained_before_it_stands() -> None:
    paragraphs = EXAMPLE.read_text().split("\n\n")
    settings = [text for text in paragraphs if SETTING.search(text) and not text.startswith("#[")]
    assert len(settings) > 20
    assert [text for text in settings if not text.startswith("# ")] == []


@pytest.mark.parametrize("section", ["", "access", "docker.io"])
def test_it_shows_the_defaults(everything: dict[str, Any], section: str) -> None:
    shown: dict[str, Any]
    model: type[BaseModel]
    match section:
        case "access":
            shown, model = everything["access"], AccessSettings
        case "docker.io":
            shown, model = everything["registries"]["docker.io"], RegistrySettings
        case _:
            shown, model = everything, Settings
    defaults = {key: field.default for key, field in model.model_fields.items() if key not in ("access", "registries")}
    for key, default in defaults.items():
        if key in WITHOUT_DEFAULT:
            assert not default
        elif default is not PydanticUndefined:
            value = shown[key]
            value = parse_duration(value) if isinstance(default, float) else value
            value = parse_reserve(value) if isinstance(default, Reserve) else value
            assert (tuple(value) if isinstance(value, list) else value) == default, key
    assert everything["data"] == str(SYSTEM_DATA)
    assert everything["registries"]["docker.io"]["url"] == WELL_KNOWN["docker.io"]


def test_no_key_is_unknown_once_everything_is_in_force(tmp_path: Path) -> None:
    file = tmp_path / "all.toml"
    file.write_text(SETTING.sub("", EXAMPLE.read_text()))
    assert from_file(file).problems == []

import tomllib
from pathlib import Path

import pytest

from mirror.config import load as load_module
from mirror.config.load import load
from mirror.config.model import Settings
from mirror.config.show import describe

TOML = """
listen = ["0.0.0.0:5000", "[::1]:5000"]
private_stale = "36h"
offline = true
listen_login = ["0.0.0.0:5001"]
max_size = "1.5TB"
min_free = "512MiB"
own = ["team/**"]
[access]
loopback = "all"
htpasswd = "htpasswd"
private = ["team/secret-*"]
hosts = ["mirror.example.com"]
[[access.rules]]
users = ["ci"]
repositories = ["index.docker.io/a/b"]
allow = ["pull"]
[[access.rules]]
users = ["*"]
repositories = ["team/*"]
allow = ["pull", "push"]
[registries."docker.io"]
tag_ttl = "90s"
immutable_tags = ['^v?\\d+$']
private = ["team/*"]
[registries."x.io:5000"]
url = ["https://a.example.com", "https://b.example.com"]
idle_timeout = 1.5
"""


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr(load_module, "SYSTEM_FILE", tmp_path / "system.toml")
    file = tmp_path / "mirror.toml"
    file.write_text(TOML)
    return load(file, {"MIRROR_LOG_FORMAT": "json"}, {"data": tmp_path / "data"})


def test_what_is_shown_loads_as_the_same_settings(settings: Settings, tmp_path: Path) -> None:
    shown = tmp_path / "shown.toml"
    shown.write_text(describe(settings))
    assert load(shown, {}, {}).model_dump() == settings.model_dump()


def test_each_line_says_where_it_comes_from(settings: Settings, tmp_path: Path) -> None:
    comments = {
        line.split(" = ")[0]: line.split("  # ")[1] for line in describe(settings).splitlines() if " = " in line
    }
    assert comments["data"] == "--data"
    assert comments["log_format"] == "environment MIRROR_LOG_FORMAT"
    assert comments["listen"] == str(tmp_path / "mirror.toml")
    assert comments["default_registry"] == "default"
    assert comments["url"] == "well-known"  # the last one's


def test_secrets_are_hidden(tmp_path: Path) -> None:
    registries = {
        "docker.io": {
            "url": "https://registry-1.docker.io",
            "username": "me",
            "password": "hunter2",
            "proxy": "http://u:hunter2@proxy:3128",
        }
    }
    shown = describe(Settings.model_validate({"data": tmp_path, "registries": registries}))
    assert "hunter2" not in shown
    entry = tomllib.loads(shown)["registries"]["docker.io"]
    assert entry["username"] == "me"
    assert entry["proxy"] == "http://********@proxy:3128"


def test_nothing_steers_the_terminal() -> None:
    odd = Settings(data=Path("/a\x1b[2J"), socket_group="gru\u0308n").with_origins({("data",): "a\nb\x1b"}, None)
    assert all(line.isprintable() for line in describe(odd).splitlines())
    assert tomllib.loads(describe(odd))["data"] == "/a\x1b[2J"

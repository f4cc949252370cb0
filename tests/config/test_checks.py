"""What only the whole of the settings shows. The registry and group parts are tried in `test_load`."""

from pathlib import Path

import pytest

from mirror.config import load as load_module
from mirror.config.load import load
from mirror.config.model import Settings
from mirror.errors import ConfigInvalid

RULE = '[[access.rules]]\nusers = ["ci"]\nrepositories = ["{}"]\nallow = ["pull"]\n'
USERS = '[access]\nhtpasswd = "{there}"\n'


@pytest.fixture(autouse=True)
def no_system_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_module, "SYSTEM_FILE", tmp_path / "system.toml")


def loaded(folder: Path, toml: str) -> Settings:
    file = folder / "mirror.toml"
    file.write_text(toml)
    return load(file, {}, {})


@pytest.mark.parametrize(("toml", "says"), [
    ('tls_cert = "{there}"', "tls_cert: is set without tls_key; write both, or neither"),
    ('tls_key = "{there}"', "tls_key: is set without tls_cert"),
    ('tls_cert = "{there}"\ntls_key = "gone"', "tls_key: "),
    ('listen_login = ["127.0.0.1:5001"]', "listen_login: nobody can log in without users"),
    ('[access]\nanonymous = "none"', 'access.anonymous: "none" shuts everybody out'),
    (RULE.format("team/*"), "access.rules: there are no users to have rights"),
    (USERS + RULE.format("gcr.oi/x"), 'rule 1: repositories: "gcr.oi" in "gcr.oi/x" is no'),
    ('[access]\nhtpasswd = "gone/htpasswd"', "cannot be read: No such file or directory"),
    ('[access]\nhtpasswd = "{folder}"', "cannot be read: Is a directory"),
    (
        'listen = ["127.0.0.1:5000"]\nlisten_login = ["0.0.0.0:5000"]\n[access]\nhtpasswd = "{there}"',
        'listen_login: "0.0.0.0:5000" and an address of listen share a port; give it another, such as port 5001',
    ),
    (
        'listen = ["0.0.0.0:5000"]\nlisten_login = ["127.0.0.1:5000"]\n[access]\nhtpasswd = "{there}"',
        "share a port",
    ),
])  # fmt: skip
def test_contradictions_are_refused(tmp_path: Path, toml: str, says: str) -> None:
    there = tmp_path / "there"
    there.touch()
    with pytest.raises(ConfigInvalid) as caught:
        loaded(tmp_path, toml.replace("{there}", str(there)).replace("{folder}", str(tmp_path)))
    (line,) = caught.value.message.splitlines()
    assert says in line
    assert line.startswith(f"{tmp_path / 'mirror.toml'}: ")


@pytest.mark.parametrize("toml", [
    '[access]\nhtpasswd = "htpasswd"',  # `mirror user add` makes it
    'listen_login = ["127.0.0.1:5001"]\n[access]\nhtpasswd = "x"\nanonymous = "none"\n' + RULE.format("ghcr.io/x"),
    '[access]\nhtpasswd = "htpasswd"\n' + RULE.format("*.example.com/**"),
    'listen = ["127.0.0.1:5000"]\nlisten_login = ["127.0.0.2:5000"]\n[access]\nhtpasswd = "htpasswd"',
    'listen = ["127.0.0.1:0"]\nlisten_login = ["127.0.0.1:0"]\n[access]\nhtpasswd = "htpasswd"',
    'max_size = "1GB"\nmin_free = "10%"\nown = ["team/**"]\n[access]\nprivate = ["team/secret-*"]\nhosts = ["box"]',
])  # fmt: skip
def test_what_fits_is_taken(tmp_path: Path, toml: str) -> None:
    assert loaded(tmp_path, toml).access.loopback == "push"


def test_paths_are_meant_below_the_files_folder(tmp_path: Path) -> None:
    for name in ("cert", "key"):
        (tmp_path / name).touch()
    settings = loaded(tmp_path, 'tls_cert = "cert"\ntls_key = "key"\n[access]\nhtpasswd = "users"')
    assert (settings.tls_cert, settings.tls_key) == (tmp_path / "cert", tmp_path / "key")
    assert settings.access.htpasswd == tmp_path / "users"

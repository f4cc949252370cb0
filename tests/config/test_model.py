from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from mirror.config.model import RegistrySettings, Settings, parse_duration

URL = "https://registry.example.com"


def registry(**values: object) -> RegistrySettings:
    return RegistrySettings.model_validate({"url": URL, **values})


def test_every_default_is_valid() -> None:
    settings = Settings(data=Path("/data"))
    assert settings.listen == ("127.0.0.1:5000",)
    assert settings.private_stale == parse_duration("7d")
    assert settings.access.loopback == "push"
    assert settings.access.anonymous == "pull"
    assert (settings.listen_login, settings.own, settings.access.rules) == ((), (), ())
    assert settings.registries == {}


def test_a_url_may_be_a_list() -> None:
    assert registry().urls == (URL,)
    assert registry(url=[URL, "https://standby.example.com/"]).urls == (URL, "https://standby.example.com")


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"username": "u", "password": "p", "password_file": "/f"}, "both set; leave one of them out"),
        ({"password": "p"}, "password is set without username"),
        ({"password_file": "/f"}, "password_file is set without username"),
        ({"username": "u"}, "username is set without a password"),
        ({"url": "http://10.0.0.1", "username": "u", "password": "p"}, "unencrypted; write an https URL"),
        ({"url": [URL, "http://10.0.0.1"], "username": "u", "password": "p"}, "http://10.0.0.1 unencrypted"),
    ],
)
def test_credentials_that_do_not_fit_are_refused(values: dict[str, object], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        registry(**values)


@pytest.mark.parametrize(
    "values",
    [
        {"username": "u", "password": "p"},
        {"username": "u", "password_file": "/f"},
        {"url": "http://127.0.0.1:5000", "username": "u", "password": "p"},
        {"url": "http://10.0.0.1", "username": "u", "password": "p", "insecure": True},
        {"url": "http://10.0.0.1"},
    ],
)
def test_credentials_that_fit_are_taken(values: dict[str, object]) -> None:
    assert registry(**values).enabled


def test_secrets_do_not_show_in_a_representation() -> None:
    entry = registry(username="u", password="hunter2", proxy="http://u:hunter2@proxy:1")
    assert isinstance(entry.password, SecretStr)
    assert "hunter2" not in repr(Settings(data=Path("/data"), registries={"x.io": entry}))


def test_registries_stand_under_their_canonical_names() -> None:
    settings = Settings(data=Path("/d"), default_registry="Index.Docker.io", registries={"Quay.IO:443": registry()})
    assert list(settings.registries) == ["quay.io"]
    assert settings.default_registry == "docker.io"


@pytest.mark.parametrize("names", [("quay.io", "QUAY.io"), ("docker.io", "index.docker.io")])
def test_one_registry_under_two_names_is_refused(names: tuple[str, str]) -> None:
    with pytest.raises(ValidationError, match="stands there already"):
        Settings(data=Path("/d"), registries=dict.fromkeys(names, registry()))


@pytest.mark.parametrize("name", ["", "a/b", "a b", "http://x", "x:99999", "-"])
def test_a_name_that_is_no_host_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="no registry host"):
        Settings(data=Path("/d"), registries={name: registry()})


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"listen": []}, "the list is empty"),
        ({"listen": ["127.0.0.1:5000", "127.0.0.1:5000"]}, "twice"),
        ({"listen_login": ["127.0.0.1:5000", "127.0.0.1:5000"]}, "twice"),
        ({"listen_login": ["5000"]}, "names no address"),
        ({"listen": "127.0.0.1:5000"}, "tuple"),
        ({"socket": "/" + "s" * 107}, "108 bytes long"),
        ({"offline": "yes"}, "boolean"),
        ({"unknown": 1}, "not permitted"),
    ],
)
def test_wrong_settings_are_refused(values: dict[str, object], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        Settings.model_validate({"data": "/d", **values})


def test_port_zero_may_stand_twice() -> None:
    assert len(Settings(data=Path("/d"), listen=("127.0.0.1:0", "127.0.0.1:0")).listen) == 2


def test_origins_travel_with_a_copy() -> None:
    plain = Settings(data=Path("/d"))
    told = plain.with_origins({("data",): "--data"}, Path("/f"))
    assert (told.origins, told.file) == ({("data",): "--data"}, Path("/f"))
    assert (plain.origins, plain.file) == ({}, None)
    assert told.data == plain.data


def test_settings_know_what_the_environment_decided_and_what_was_remarked() -> None:
    plain = Settings(data=Path("/d"))
    assert (plain.variables, plain.remarks) == ((), ())
    origins = {
        ("registries", "a.io", "url"): "environment MIRROR_REGISTRIES",
        ("registries", "b.io", "url"): "environment MIRROR_REGISTRIES",
        ("data",): "environment MIRROR_DATA",
        ("listen",): "/f",
    }
    told = plain.with_origins(origins, None, ["odd"])
    assert (told.variables, told.remarks) == (("MIRROR_DATA", "MIRROR_REGISTRIES"), ("odd",))

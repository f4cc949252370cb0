import pytest

from mirror.cache import names
from mirror.cache.names import Names
from mirror.errors import NameUnknown
from mirror.oci.names import Name, Repository

HUB = ("docker.io", "library/alpine")


def made() -> Names:
    return Names("docker.io", ["docker.io", "ghcr.io", "registry.corp:8443"])


@pytest.mark.parametrize(("registry", "path", "host", "expected"), [
    # what the request names counts, then its Host, then the default
    ("ghcr.io", "team/app", "127.0.0.1:5000", ("ghcr.io", "team/app")),
    ("ghcr.io", "team/app", "docker.io", ("ghcr.io", "team/app")),
    (None, "team/app", "ghcr.io", ("ghcr.io", "team/app")),
    (None, "team/app", "GHCR.IO.:443", ("ghcr.io", "team/app")),
    (None, "team/app", "registry.corp:8443", ("registry.corp:8443", "team/app")),
    (None, "team/app", "registry.corp", ("docker.io", "team/app")),
    (None, "team/app", "mirror:5000", ("docker.io", "team/app")),
    (None, "team/app", "", ("docker.io", "team/app")),
    (None, "team/app", "not a host", ("docker.io", "team/app")),
    # Docker Hub has several names, and one component means its library; elsewhere it does not
    (None, "alpine", "", HUB),
    ("docker.io", "alpine", "", HUB),
    ("registry-1.docker.io", "alpine", "", HUB),
    (None, "alpine", "index.docker.io", HUB),
    ("ghcr.io", "alpine", "", ("ghcr.io", "alpine")),
])  # fmt: skip
def test_which_repository(registry: str | None, path: str, host: str, expected: tuple[str, str]) -> None:
    found = made()
    for _ in range(2):  # the second comes from memory
        assert found.repository(Name(registry, path), host) == Repository(*expected)


def test_only_configured_registries_exist() -> None:
    with pytest.raises(NameUnknown) as caught:
        made().repository(Name("quay.io", "a/b"), "ghcr.io")
    assert caught.value.detail == {"registry": "quay.io"}
    assert '[registries."quay.io"]' in caught.value.message


def test_a_default_registry_that_is_disabled_is_unknown_too() -> None:
    with pytest.raises(NameUnknown):
        Names("docker.io", ["ghcr.io"]).repository(Name(None, "alpine"), "")


@pytest.mark.parametrize(("host", "known"), [
    ("ghcr.io", True), ("ghcr.io:443", True), ("registry-1.docker.io", True), ("registry.corp:8443", True),
    ("ghcr.io:5000", False), ("quay.io", False), ("127.0.0.1:5000", False), ("", False), ("a b", False),
])  # fmt: skip
def test_registries_by_host(host: str, known: bool) -> None:
    assert made().is_registry(host) is known


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "_REMEMBERED", 3)
    found = made()
    for number in range(10):
        assert found.repository(Name(None, f"a/b{number}"), "").path == f"a/b{number}"
        assert len(found._known) <= 3

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mirror.cache import names
from mirror.cache.names import Names
from mirror.cache.ownership import OwnNames
from mirror.errors import DigestInvalid, NameInvalid, NameUnknown
from mirror.oci import routes
from mirror.oci.names import Name, Repository, with_library

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


# --- own names ------------------------------------------------------------------------------------------------------

REGISTRIES = ("docker.io", "ghcr.io", "registry.corp:8443")
ALL_PATHS = ("app", "team/app", "team/other", "library/app", "ghcr", "local/team/app", "docker", "a/b/c")
PATHS = st.sampled_from(ALL_PATHS)
HOSTS = st.sampled_from(["", "127.0.0.1:5000", "mirror:5000", "docker.io", "registry-1.docker.io", "GHCR.IO", "local"])
NS = st.sampled_from([None, "docker.io", "registry-1.docker.io", "ghcr.io", "registry.corp:8443"])
PREFIXES = st.sampled_from(["", "docker.io/", "index.docker.io/", "ghcr.io/", "docker.io./"])


@given(own=st.sets(PATHS), default=st.sampled_from(REGISTRIES), path=PATHS, host=HOSTS, ns=NS, prefix=PREFIXES)
def test_own_names_answer_what_names_no_registry_and_nothing_else(
    own: set[str], default: str, path: str, host: str, ns: str | None, prefix: str
) -> None:
    """In every form of a request. Breaks where an own name is looked for before the registry that is said, or where
    `library/` is put before a path that was not said to be docker.io's."""
    assume(ns is None or prefix != "docker.io./")  # then it would belong to the path, and be none
    route = routes.parse(f"/v2/{prefix}{path}/manifests/1", f"ns={ns}" if ns else "")
    assert isinstance(route, routes.ManifestRoute)
    found = Names(default, REGISTRIES, OwnNames(own))
    repository = found.repository(route.name, host)
    assert repository == found.repository(route.name, host)
    qualified = ns is not None or prefix != "" or found.is_registry(host)
    assert repository.is_own == (not qualified and path in own)
    if repository.is_own:
        assert repository.path == path
    elif not qualified:
        assert repository == Repository(default, with_library(default, path))
    else:  # nothing that is said to be a registry's depends on what is own
        assert repository == Names(default, REGISTRIES).repository(route.name, host)


@given(st.lists(st.tuples(PATHS, HOSTS, NS), min_size=1), st.lists(PATHS))
def test_a_name_that_becomes_own_is_own_at_once(asked: list[tuple[str, str, str | None]], made_own: list[str]) -> None:
    """Whatever was asked for before. Breaks where what is remembered is not dropped."""
    own = OwnNames()
    found = Names("docker.io", REGISTRIES, own)
    told: list[int] = []
    found.watch(lambda: told.append(len(told)))
    for path in [*made_own, None]:
        fresh = Names("docker.io", REGISTRIES, OwnNames(p for p in ALL_PATHS if p in own))
        for name, host in ((Name(ns, asked_path), host) for asked_path, host, ns in asked):
            assert found.repository(name, host) == fresh.repository(name, host)
        if path is not None:
            own.add(path)
    assert len(told) == len(set(made_own))


@given(own=st.sets(PATHS), path=PATHS, registry=st.sampled_from(["local", *REGISTRIES]))
def test_a_person_reads_back_what_is_printed(own: set[str], path: str, registry: str) -> None:
    found = Names("docker.io", REGISTRIES, OwnNames(own))
    repository = Repository(registry, path)
    if not repository.is_own or path in own:
        assert found.written(found.familiar(repository)) == repository


@pytest.mark.parametrize(("text", "canonical", "short"), [
    ("app", "local/app:latest", "app"),
    ("app:1", "local/app:1", "app"),
    ("team/app:1", "local/team/app:1", "team/app"),
    ("docker.io/app:1", "docker.io/library/app:1", "docker.io/app"),
    ("library/app:1", "docker.io/library/app:1", "docker.io/app"),
    ("docker.io/team/app", "docker.io/team/app:latest", "docker.io/team/app"),
    ("other:1", "docker.io/library/other:1", "other"),
    ("ghcr.io/team/app:1", "ghcr.io/team/app:1", "ghcr.io/team/app"),
])  # fmt: skip
def test_references_as_people_write_them(text: str, canonical: str, short: str) -> None:
    """Own names are `app` and `team/app`."""
    found = Names("docker.io", REGISTRIES, OwnNames(["app", "team/app"]))
    reference = found.reference(text)
    assert str(reference) == canonical
    assert found.familiar(reference.repository) == short


@pytest.mark.parametrize("text", ["app:", "App", "", "app@sha256:12"])
def test_texts_that_are_no_reference(text: str) -> None:
    with pytest.raises((NameInvalid, DigestInvalid)):
        Names("docker.io", REGISTRIES, OwnNames(["app", ""])).reference(text)

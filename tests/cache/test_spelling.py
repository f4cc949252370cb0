"""How a client writes a repository: what `Names` reads back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.cache.names import Names
from mirror.cache.ownership import OwnNames
from mirror.cache.spelling import Spelling
from mirror.oci.names import LOCAL, Repository
from mirror.oci.routes import TagsRoute, parse

REGISTRIES = ("docker.io", "ghcr.io", "quay.io:5000")
OWN = ("team/app", "alpine", "library2/x")
PRIVATE = "team/secret"


def spelling(default: str = "docker.io") -> Spelling:
    return Spelling(default, OwnNames(OWN), lambda own: own.path == PRIVATE)


@pytest.mark.parametrize(
    ("repository", "written", "short", "familiar"),
    [
        ("docker.io/library/nginx", "library/nginx", "nginx", "nginx"),
        ("docker.io/library/alpine", "library/alpine", "library/alpine", "docker.io/library/alpine"),
        ("docker.io/library/a/b", "library/a/b", "library/a/b", "library/a/b"),
        ("docker.io/other/app", "other/app", "other/app", "other/app"),
        ("docker.io/team/app", "docker.io/team/app", "docker.io/team/app", "docker.io/team/app"),
        ("docker.io/team/secret", "docker.io/team/secret", "docker.io/team/secret", "docker.io/team/secret"),
        ("docker.io/my.org/app", "docker.io/my.org/app", "docker.io/my.org/app", "docker.io/my.org/app"),
        ("ghcr.io/team/app", "ghcr.io/team/app", "ghcr.io/team/app", "ghcr.io/team/app"),
        ("ghcr.io/library/x", "ghcr.io/library/x", "ghcr.io/library/x", "ghcr.io/library/x"),
    ],
)
def test_names(repository: str, written: str, short: str, familiar: str) -> None:
    spelled, each = spelling(), Repository.parse(repository)
    assert (spelled.written(each), spelled.short(each), spelled.familiar(each)) == (written, short, familiar)


def test_another_default_registry() -> None:
    spelled = spelling("ghcr.io")
    assert spelled.written(Repository("ghcr.io", "org/x")) == "org/x"
    assert spelled.short(Repository("ghcr.io", "library/x")) == "library/x"
    assert spelled.written(Repository("docker.io", "library/nginx")) == "docker.io/library/nginx"
    assert spelled.short(Repository("docker.io", "library/nginx")) == "docker.io/library/nginx"
    assert spelled.familiar(Repository("docker.io", "library/nginx")) == "nginx"
    assert spelled.familiar(Repository("ghcr.io", "org/x")) == "ghcr.io/org/x"


def test_own_names_stand_bare() -> None:
    own = Repository(LOCAL, "team/app")
    assert {spelling().written(own), spelling().short(own), spelling().familiar(own)} == {"team/app"}


paths = st.sampled_from(
    [*OWN, PRIVATE, "library/nginx", "library/alpine", "nginx", "a/b/c", "my.org/app", "localhost/x"]
)


@given(st.sampled_from(REGISTRIES), st.sampled_from(REGISTRIES), paths)
def test_a_client_gets_what_is_written(default: str, registry: str, path: str) -> None:
    """Fails if a name that a list gives is another repository when it is pulled."""
    repository = Repository(registry, path)
    names = Names(default, REGISTRIES, OwnNames(OWN))
    spelled = spelling(default)
    for text in (spelled.written(repository), spelled.short(repository)):
        route = parse(f"/v2/{text}/tags/list")
        assert isinstance(route, TagsRoute)
        assert names.repository(route.name, "") == repository

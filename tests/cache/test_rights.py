"""Every route, every method, every role has a decision; what is not in the table is refused."""

from typing import get_args

import pytest

from mirror.cache.rights import (
    ACTIONS,
    ALLOWED,
    LOOPBACK,
    SOCKET,
    STRANGER,
    Action,
    Principal,
    Rights,
    Role,
    StatusRoute,
    sharing,
)
from mirror.errors import Denied, Unsupported
from mirror.oci import routes
from mirror.oci.names import Repository
from tests.cache.support import nobody

ROUTES: tuple[type, ...] = (*get_args(routes.Route), StatusRoute)
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT")
PRINCIPALS = (STRANGER, LOOPBACK, SOCKET)

# What is decided, written down once more: a new route, method or role fails here until somebody decides.
READ = {"GET", "HEAD"}
NOTHING: set[str] = set()
DECIDED: dict[tuple[type, Role], set[str]] = {
    **{(route, role): READ for route in (routes.Base, routes.ManifestRoute, routes.BlobRoute) for role in Role},
    **{(route, role): READ for route in (routes.TagsRoute, routes.ReferrersRoute) for role in Role},
    **{(route, role): NOTHING for route in (routes.UploadsRoute, routes.UploadRoute) for role in Role},
    **{(routes.CatalogRoute, role): NOTHING for role in Role},
    (StatusRoute, Role.STRANGER): NOTHING,
    (StatusRoute, Role.LOOPBACK): READ,
    (StatusRoute, Role.SOCKET): READ,
}

OPEN = Rights(loopback=True, shared=nobody)


@pytest.mark.parametrize("principal", PRINCIPALS, ids=lambda each: str(each.role))
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("route", ROUTES, ids=lambda each: str(each.__name__))
def test_everything_is_decided(route: type, method: str, principal: Principal) -> None:
    allowed = DECIDED[route, principal.role]
    if method in allowed:
        assert OPEN.check(principal, route, method) is ACTIONS[route, method]
    else:
        with pytest.raises((Denied, Unsupported)):
            OPEN.check(principal, route, method)


def test_every_role_and_action_stands_in_the_table() -> None:
    assert set(ALLOWED) == set(Role)
    assert {action for actions in ALLOWED.values() for action in actions} == set(Action)
    assert ALLOWED[Role.STRANGER] < ALLOWED[Role.LOOPBACK] <= ALLOWED[Role.SOCKET]


def test_every_method_of_the_table_is_one_that_this_test_tries() -> None:
    assert {method for _, method in ACTIONS} <= set(METHODS)
    assert {route for route, _ in ACTIONS} <= set(ROUTES)


def test_a_class_that_is_no_route_is_refused_to_everybody() -> None:
    for principal in PRINCIPALS:
        with pytest.raises(Unsupported):
            OPEN.check(principal, object, "GET")


def test_a_method_that_nobody_has_is_405_and_one_that_others_have_is_403() -> None:
    with pytest.raises(Unsupported) as unsupported:
        OPEN.check(SOCKET, routes.BlobRoute, "DELETE")
    assert (unsupported.value.status, unsupported.value.detail) == (
        405,
        {"method": "DELETE", "allow": "GET, HEAD"},
    )
    with pytest.raises(Denied) as denied:
        OPEN.check(STRANGER, StatusRoute, "GET")
    assert (denied.value.status, denied.value.detail) == (403, {"action": "status"})


@pytest.mark.parametrize(("role", "with_loopback", "without"), [
    (Role.STRANGER, STRANGER, STRANGER),
    (Role.LOOPBACK, LOOPBACK, STRANGER),
    (Role.SOCKET, SOCKET, SOCKET),
])  # fmt: skip
def test_loopback_none_makes_loopback_a_stranger(role: Role, with_loopback: Principal, without: Principal) -> None:
    assert OPEN.principal(role) == with_loopback
    assert Rights(loopback=False, shared=nobody).principal(role) == without


# --- private = ... ----------------------------------------------------------------------------------------


def test_trust() -> None:
    rights = Rights(loopback=True, shared=sharing({"ghcr.io": ("team/*",)}))
    private, shared = Repository("ghcr.io", "other/app"), Repository("ghcr.io", "team/app")
    assert [rights.trusted(each, private) for each in PRINCIPALS] == [False, True, True]
    assert [rights.trusted(each, shared) for each in PRINCIPALS] == [True, True, True]


@pytest.mark.parametrize(("glob", "path", "shared"), [
    ("team/app", "team/app", True),
    ("team/app", "team/app2", False),
    ("team/app", "a/team/app", False),
    ("team/*", "team/app", True),
    ("team/*", "team/app/debug", False),
    ("team/*", "team", False),
    ("team/*", "teams/app", False),
    ("*/app", "team/app", True),
    ("*/app", "a/b/app", False),
    ("*", "app", True),
    ("*", "team/app", False),
    ("**", "team/app/debug", True),
    ("team/**", "team/app/debug", True),
    ("team/**", "teams/app", False),
    ("team/**/app", "team/a/b/app", True),
    ("team/**/app", "team/a/b/app2", False),
    ("team/a*c*e", "team/abcde", True),
    ("team/a*c*e", "team/abc/e", False),
    ("te?m/app", "team/app", True),
    ("te?m/app", "te/m/app", False),
    ("tea?m", "tea/m", False),
    ("tea[!b]m", "tea/m", False),
    ("team.x/app", "team.x/app", True),
    ("team.x/app", "teamax/app", False),
    ("team.*", "teama", False),
    ("team.*", "team.a", True),
])  # fmt: skip
def test_globs(glob: str, path: str, shared: bool) -> None:
    assert sharing({"ghcr.io": (glob,)})(Repository("ghcr.io", path)) is shared


def test_sharing_is_by_registry() -> None:
    shared = sharing({"ghcr.io": "share", "quay.io": "deny", "docker.io": ("library/x", "team/**")})
    assert shared(Repository("ghcr.io", "any/thing"))
    assert not shared(Repository("quay.io", "any/thing"))
    assert not shared(Repository("gcr.io", "any/thing"))
    assert shared(Repository("docker.io", "x"))
    assert shared(Repository("docker.io", "team/a/b"))
    assert not shared(Repository("docker.io", "library/y"))
    assert not sharing({})(Repository("docker.io", "x"))

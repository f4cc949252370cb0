"""Every route, every method, every role, every setting has a decision; what is not in the table is refused."""

from itertools import product
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.cache.rights import (
    ACTIONS,
    LOOPBACK,
    SOCKET,
    STRANGER,
    Action,
    Principal,
    Rights,
    Role,
    Rule,
    naming,
    rows,
    sharing,
)
from mirror.errors import Denied, NameUnknown, Unauthorized, Unsupported
from mirror.oci import routes
from mirror.oci.names import LOCAL, Repository
from tests.cache.support import nobody

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT")
ANONYMOUS = ("pull", "none")
LOOPBACKS = ("all", "push", "pull", "none")

# What each route and method is, written down once more: a new one fails here until somebody decides.
PING, PULL, PUSH, DELETE, READ, WRITE, ADMIN = "ping", "pull", "push", "delete", "read", "write", "admin"
KINDS: dict[tuple[type | str, str], str] = {
    **{(route, method): PING for route in (routes.Base, routes.OldPing) for method in ("GET", "HEAD")},
    **{
        (route, method): PULL
        for route in (
            *(routes.ManifestRoute, routes.BlobRoute, routes.TagsRoute, routes.ReferrersRoute),
            *(routes.CatalogRoute, routes.SearchRoute),
        )
        for method in ("GET", "HEAD")
    },
    (routes.UploadsRoute, "POST"): PUSH,
    **{(routes.UploadRoute, method): PUSH for method in ("GET", "PATCH", "PUT", "DELETE")},
    (routes.ManifestRoute, "PUT"): PUSH,
    (routes.ManifestRoute, "DELETE"): DELETE,
    (routes.BlobRoute, "DELETE"): DELETE,
    ("/openapi.json", "GET"): PING,
    **{
        (f"/{name}", "GET"): READ
        for name in (
            "status",
            "images",
            "image",
            "layers",
            "tags",
            "search",
            "df",
            "pins",
            "misses",
            "offline",
            "queue",
        )
    },
    **{(f"/{name}", "POST"): WRITE for name in ("pull", "push", "tag", "remove")},
    **{(f"/{name}", "POST"): ADMIN for name in ("pins", "prune", "verify", "login", "logout", "users", "queue")},
    **{(f"/{name}", "DELETE"): ADMIN for name in ("pins", "users", "misses", "queue")},
    ("/users", "GET"): ADMIN,
    ("/offline", "PUT"): ADMIN,
}
ROUTES: tuple[type | str, ...] = (
    *get_args(routes.Route),
    *sorted({route for route, _ in ACTIONS if isinstance(route, str)}),
)

RULES = [
    Rule(frozenset({"puller", "both"}), ("ghcr.io/me/*", "team/secret-*"), frozenset({Action.PULL})),
    Rule(frozenset({"pusher", "both"}), ("team/*",), frozenset({Action.PUSH, Action.DELETE})),
    Rule(frozenset({"admin"}), ("none/such",), frozenset({Action.ADMIN})),
]
WITH_RULE = {"puller", "pusher", "admin"}
USERS = (None, "plain", *sorted(WITH_RULE))


def rights(anonymous: str = "pull", loopback: str = "push", *, users: bool = True) -> Rights:
    return Rights(
        shared=sharing({"ghcr.io": ("open/*",)}),
        anonymous=anonymous,
        loopback=loopback,
        users=users,
        private=["team/secret-*"],
        rules=RULES if users else (),
    )


def base(role: Role, anonymous: str, loopback: str) -> set[str]:
    """What a role has by the settings, in the words of the specification."""
    match role, anonymous, loopback:
        case Role.SOCKET, _, _:
            return {PING, PULL, PUSH, DELETE, READ, WRITE, ADMIN}
        case Role.LOOPBACK, _, "all":
            return {PING, PULL, PUSH, DELETE, READ, WRITE, ADMIN}
        case Role.LOOPBACK, _, "push":
            return {PING, PULL, PUSH, READ}
        case Role.LOOPBACK, _, "pull":
            return {PING, PULL, READ}
        case (Role.LOOPBACK, "pull", "none") | (Role.STRANGER, "pull", _):
            return {PING, PULL}
        case (Role.LOOPBACK, "none", "none") | (Role.STRANGER, "none", _):
            return set()
        case _:
            raise AssertionError("nobody has decided this")


def decided(role: Role, user: str | None, anonymous: str, loopback: str) -> set[str]:
    """That, and what a user adds: he may ping and read, write with some rule, pull and manage where one says so."""
    may = base(role, anonymous, loopback)
    if user is not None:
        may |= {PING, READ}
        may |= {WRITE} if user in WITH_RULE else set()
        may |= {"puller": {PULL}, "pusher": {PUSH, DELETE}, "admin": {ADMIN}}.get(user, set())
    return may


# --- route × method × role × settings ---------------------------------------------------------------------


def test_every_route_and_method_is_decided() -> None:
    assert dict(ACTIONS) == {key: Action(kind) for key, kind in KINDS.items()}
    assert {method for _, method in ACTIONS} <= set(METHODS)


@pytest.mark.parametrize(("anonymous", "loopback"), list(product(ANONYMOUS, LOOPBACKS)))
@pytest.mark.parametrize("role", [Role.STRANGER, Role.LOOPBACK, Role.SOCKET])
@pytest.mark.parametrize("user", USERS)
def test_every_cell(role: Role, user: str | None, anonymous: str, loopback: str) -> None:
    asked = rights(anonymous, loopback)
    principal = asked.principal(role, user)
    may = decided(role, user if role is not Role.SOCKET else None, anonymous, loopback)
    for route, method in product(ROUTES, METHODS):
        kind = KINDS.get((route, method))
        if kind is None:
            with pytest.raises(Unsupported):
                asked.check(principal, route, method)
        elif kind in may:
            assert asked.check(principal, route, method) is ACTIONS[route, method]
        else:  # who has shown no user may try with one
            with pytest.raises(Unauthorized if user is None else Denied):
                asked.check(principal, route, method)


@pytest.mark.parametrize(("anonymous", "loopback"), list(product(ANONYMOUS, LOOPBACKS)))
def test_every_role_stands_in_the_table(anonymous: str, loopback: str) -> None:
    table = rows(anonymous, loopback)
    assert set(table) == set(Role)
    assert table[Role.SOCKET] == set(Action)
    assert table[Role.STRANGER] < table[Role.USER] < table[Role.SOCKET]


def test_a_class_that_is_no_route_is_refused_to_everybody() -> None:
    for principal in (STRANGER, LOOPBACK, SOCKET, Principal(Role.USER, "admin")):
        with pytest.raises(Unsupported):
            rights().check(principal, object, "GET")


def test_a_method_that_nobody_has_is_405_and_one_that_others_have_is_403_or_401() -> None:
    with pytest.raises(Unsupported) as unsupported:
        rights().check(SOCKET, routes.TagsRoute, "DELETE")
    assert (unsupported.value.status, unsupported.value.detail) == (
        405,
        {"method": "DELETE", "allow": "GET, HEAD"},
    )
    with pytest.raises(Denied) as denied:
        rights(users=False).check(STRANGER, "/status", "GET")
    assert (denied.value.status, denied.value.detail) == (403, {"action": "read"})
    with pytest.raises(Unauthorized) as unauthorized:
        rights().check(STRANGER, "/status", "GET")
    assert unauthorized.value.status == 401


@pytest.mark.parametrize(("role", "user", "loopback", "principal"), [
    (Role.STRANGER, None, "push", STRANGER),
    (Role.STRANGER, "ci", "push", Principal(Role.USER, "ci")),
    (Role.LOOPBACK, None, "push", LOOPBACK),
    (Role.LOOPBACK, None, "none", STRANGER),
    (Role.LOOPBACK, "ci", "push", Principal(Role.LOOPBACK, "ci")),
    (Role.LOOPBACK, "ci", "none", Principal(Role.USER, "ci")),
    (Role.SOCKET, None, "none", SOCKET),
    (Role.SOCKET, "ci", "push", SOCKET),
])  # fmt: skip
def test_who_asks(role: Role, user: str | None, loopback: str, principal: Principal) -> None:
    assert rights(loopback=loopback).principal(role, user) == principal


# --- repositories -----------------------------------------------------------------------------------------

PUBLIC, MINE, OPEN = (
    Repository("docker.io", "library/x"),
    Repository("ghcr.io", "me/app"),
    Repository("ghcr.io", "open/x"),
)
OWN, SECRET, OTHER = Repository(LOCAL, "team/app"), Repository(LOCAL, "team/secret-x"), Repository(LOCAL, "app")
ELSEWHERE = Repository("docker.io", "team/secret-x")  # not the mirror's own
REPOSITORIES = (PUBLIC, MINE, OPEN, OWN, SECRET, OTHER, ELSEWHERE)


def user(name: str) -> Principal:
    return Principal(Role.USER, name)


@pytest.mark.parametrize(("principal", "anonymous", "pulls"), [
    (STRANGER, "pull", {PUBLIC, MINE, OPEN, OWN, OTHER, ELSEWHERE}),
    (STRANGER, "none", set()),
    (user("plain"), "pull", {PUBLIC, MINE, OPEN, OWN, OTHER, ELSEWHERE}),
    (user("plain"), "none", set()),
    (user("puller"), "pull", set(REPOSITORIES)),
    (user("puller"), "none", {MINE, SECRET}),
    (user("pusher"), "pull", set(REPOSITORIES) - {SECRET}),  # allow says "push": it does not say "pull"
    (LOOPBACK, "none", set(REPOSITORIES)),
    (Principal(Role.LOOPBACK, "plain"), "none", set(REPOSITORIES)),
    (SOCKET, "none", set(REPOSITORIES)),
])  # fmt: skip
def test_who_may_pull_what(principal: Principal, anonymous: str, pulls: set[Repository]) -> None:
    asked = rights(anonymous)
    assert {each for each in REPOSITORIES if asked.allows(principal, Action.PULL, each)} == pulls
    for each in REPOSITORIES:
        if each in pulls:
            asked.require(principal, Action.PULL, each)
        else:
            with pytest.raises(NameUnknown):
                asked.require(principal, Action.PULL, each)


@pytest.mark.parametrize(("principal", "loopback", "pushes", "deletes"), [
    (STRANGER, "push", set(), set()),
    (user("plain"), "push", set(), set()),
    (user("puller"), "push", set(), set()),
    (user("pusher"), "push", {OWN, SECRET}, {OWN, SECRET}),
    (user("both"), "push", {OWN, SECRET}, {OWN, SECRET}),
    (user("admin"), "push", set(), set()),
    (LOOPBACK, "pull", set(), set()),
    (LOOPBACK, "push", set(REPOSITORIES), set()),
    (LOOPBACK, "all", set(REPOSITORIES), set(REPOSITORIES)),
    (Principal(Role.LOOPBACK, "pusher"), "pull", {OWN, SECRET}, {OWN, SECRET}),
    (Principal(Role.LOOPBACK, "pusher"), "push", set(REPOSITORIES), {OWN, SECRET}),
    (SOCKET, "none", set(REPOSITORIES), set(REPOSITORIES)),
])  # fmt: skip
def test_who_may_change_what(
    principal: Principal, loopback: str, pushes: set[Repository], deletes: set[Repository]
) -> None:
    asked = rights(loopback=loopback)
    assert {each for each in REPOSITORIES if asked.allows(principal, Action.PUSH, each)} == pushes
    assert {each for each in REPOSITORIES if asked.allows(principal, Action.DELETE, each)} == deletes


def test_a_denial_says_no_more_than_he_may_know() -> None:
    """Breaks if somebody can tell by the kind of refusal that a private repository is there."""
    with pytest.raises(NameUnknown):
        rights().require(STRANGER, Action.PUSH, SECRET)
    with pytest.raises(NameUnknown):
        rights().require(user("plain"), Action.DELETE, SECRET)
    with pytest.raises(Unauthorized):
        rights().require(STRANGER, Action.PUSH, OWN)
    with pytest.raises(Denied):
        rights(users=False).require(STRANGER, Action.PUSH, OWN)
    with pytest.raises(Denied):
        rights().require(user("puller"), Action.PUSH, OWN)


# --- private content --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("principal", "trusted"), [
    (STRANGER, {OPEN}),
    (user("plain"), {OPEN}),
    (user("puller"), {OPEN, MINE, SECRET}),
    (user("pusher"), {OPEN}),
    (user("admin"), {OPEN}),
    (LOOPBACK, set(REPOSITORIES)),
    (Principal(Role.LOOPBACK, "plain"), set(REPOSITORIES)),
    (SOCKET, set(REPOSITORIES)),
])  # fmt: skip
def test_trust(principal: Principal, trusted: set[Repository]) -> None:
    assert {each for each in REPOSITORIES if rights().trusted(principal, each)} == trusted


def test_a_star_among_the_users_is_every_known_one() -> None:
    rule = Rule(frozenset({"*"}), ("ghcr.io/**",), frozenset({Action.PULL}))
    asked = Rights(shared=nobody, users=True, rules=[rule])
    assert asked.trusted(user("anybody"), MINE)
    assert asked.trusted(user("*"), MINE)
    assert not asked.trusted(STRANGER, MINE)


def test_what_is_remembered_of_users_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mirror.cache.rights._REMEMBERED", 3)
    asked = rights()
    for number in range(10):
        asked.trusted(user(f"u{number}"), MINE)
        assert len(asked._grants) <= 3
    assert asked.trusted(user("puller"), MINE)


# --- globs ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("globs", "repository", "matches"), [
    (["team/*"], Repository(LOCAL, "team/app"), True),
    (["team/*"], Repository("docker.io", "team/app"), False),
    (["**"], Repository("docker.io", "team/app"), False),
    (["**"], Repository(LOCAL, "a/b/c"), True),
    (["*/*"], Repository("docker.io", "team/app"), False),
    (["docker.io/team/*"], Repository("docker.io", "team/app"), True),
    (["docker.io/team/*"], Repository(LOCAL, "team/app"), False),
    (["docker.io/**"], Repository("docker.io", "a/b/c"), True),
    (["docker.io/*"], Repository("docker.io", "a/b"), False),
    (["*.example.com/**"], Repository("reg.example.com", "a/b"), True),
    (["*.example.com/**"], Repository("reg.example.org", "a/b"), False),
    (["*.io/**"], Repository("evil.test", "x.io/a"), False),
    (["localhost/x"], Repository("localhost", "x"), True),
    (["host:5000/x"], Repository("host:5000", "x"), True),
    (["host:5000/x"], Repository("host", "x"), False),
    (["a", "b"], Repository(LOCAL, "b"), True),
    ([], Repository(LOCAL, "b"), False),
])  # fmt: skip
def test_globs_of_canonical_names(globs: list[str], repository: Repository, matches: bool) -> None:
    assert naming(globs)(repository) is matches


@given(st.lists(st.text(alphabet="ab/.*?:", max_size=8), max_size=4), st.sampled_from(REPOSITORIES))
def test_a_glob_without_a_registry_never_opens_an_upstream_repository(globs: list[str], repository: Repository) -> None:
    own = [glob for glob in globs if "." not in glob.partition("/")[0] and ":" not in glob.partition("/")[0]]
    if not repository.is_own:
        assert not naming(own)(repository)


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

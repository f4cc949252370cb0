"""The mirror's accounts at registries: what is asked before one is kept, and in which words it is refused."""

import logging

import pytest

from mirror.errors import (
    ConfigInvalid,
    Denied,
    MirrorError,
    NameInvalid,
    NameUnknown,
    Offline,
    RequestInvalid,
    Unavailable,
    UpstreamCredentialsRefused,
    UpstreamForbidden,
    UpstreamUnreachable,
)
from mirror.operations.logins import LoggedIn, LoggedOut, Logins

SECRET = "pass-word-7"


class Store:
    """A registry and a place for logins, which say what they are told to."""

    def __init__(self, failure: MirrorError | None = None) -> None:
        self.failure = failure
        self.logins: dict[str, tuple[str, str]] = {}

    def set_by_settings(self, registry: str) -> bool:
        if registry == "unknown.test":
            raise NameUnknown("not configured")
        return registry == "set.test"

    async def log_in(self, registry: str, username: str, password: str) -> str:
        if self.failure is not None:
            raise self.failure
        self.logins[registry] = username, password
        return "/there/config.json"

    async def log_out(self, registry: str) -> bool:
        return self.logins.pop(registry, None) is not None


async def nobody(registry: str) -> None:
    raise AssertionError(f"{registry} has no other login")


@pytest.mark.parametrize(
    ("said", "registry"),
    [
        ("ghcr.io", "ghcr.io"),
        ("GHCR.io:443", "ghcr.io"),
        ("https://ghcr.io/v2/", "ghcr.io"),
        ("https://index.docker.io/v1/", "docker.io"),
        ("registry-1.docker.io", "docker.io"),
    ],
)
async def test_in_and_out(said: str, registry: str, caplog: pytest.LogCaptureFixture) -> None:
    store, used = Store(), list[str]()

    async def use(name: str) -> None:
        used.append(name)

    logins = Logins(store, use)
    with caplog.at_level(logging.DEBUG):
        assert await logins.log_in(said, "me", SECRET) == LoggedIn(registry, "me", "/there/config.json")
        assert store.logins == {registry: ("me", SECRET)}
        assert used == [registry]
        assert await logins.log_out(said) == LoggedOut(registry, removed=True)
        assert await logins.log_out(said) == LoggedOut(registry, removed=False)
    assert SECRET not in caplog.text


@pytest.mark.parametrize(
    ("failure", "error", "code", "says"),
    [
        (
            UpstreamCredentialsRefused("x", registry="ghcr.io"),
            Denied,
            5,
            "ghcr.io refused this user name and password; nothing was stored",
        ),
        (UpstreamUnreachable("ghcr.io: no", registry="ghcr.io"), Unavailable, 1, "nothing was stored"),
        (
            UpstreamForbidden("ghcr.io: realm", registry="ghcr.io"),
            Unavailable,
            1,
            "ghcr.io: realm; the login could not",
        ),
        (Offline("this mirror is offline"), Offline, 9, "nothing was stored"),
        (ConfigInvalid("config.json is not JSON"), ConfigInvalid, 2, "config.json is not JSON; the login is good"),
        (MirrorError("disk full"), MirrorError, 1, "disk full; the login is good, but was not stored"),
    ],
)
async def test_what_cannot_be(failure: MirrorError, error: type[MirrorError], code: int, says: str) -> None:
    with pytest.raises(error) as caught:
        await Logins(Store(failure), nobody).log_in("ghcr.io", "me", SECRET)
    assert says in caught.value.message
    assert caught.value.exit_code == code
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("username", "password"),
    [("", "x"), ("me", ""), ("a:b", "x"), ("<token>", "x"), ("me\n", "x"), ("me", "x\0"), ("me", "x" * 70_000)],
)
async def test_what_is_no_login(username: str, password: str) -> None:
    store = Store()
    with pytest.raises(RequestInvalid):
        await Logins(store, nobody).log_in("ghcr.io", username, password)
    assert store.logins == {}


@pytest.mark.parametrize(
    ("registry", "error", "says"),
    [
        ("set.test", RequestInvalid, r'the settings say .* change \[registries."set.test"\]'),
        ("unknown.test", NameUnknown, "not configured"),
        ("a b", NameInvalid, "not a registry"),
        ("", NameInvalid, "not a registry"),
    ],
)
async def test_registries_that_have_no_login_here(registry: str, error: type[MirrorError], says: str) -> None:
    store = Store()
    for asked in (Logins(store, nobody).log_in(registry, "me", SECRET), Logins(store, nobody).log_out(registry)):
        with pytest.raises(error, match=says):
            await asked
    assert store.logins == {}

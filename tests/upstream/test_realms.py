"""Who may see our credentials."""

from typing import Any

import pytest
from yarl import URL

from mirror.config.model import RegistrySettings
from mirror.errors import UpstreamForbidden
from mirror.upstream.realms import RealmPolicy, _suffixes, load_suffixes, related


def policy(**values: Any) -> RealmPolicy:
    return RealmPolicy("registry.test", RegistrySettings(url="https://registry.test", **values))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("registry-1.docker.io", "auth.docker.io"),
        ("docker.io", "auth.docker.io"),
        ("Registry.Example.com.", "auth.example.com"),
        ("registry.example.co.uk", "auth.example.co.uk"),
        ("localhost", "localhost"),
        ("127.0.0.1", "127.0.0.1"),
        ("registry", "registry"),
    ],
)
def test_relatives(one: str, other: str) -> None:
    assert related(one, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("registry.example.com", "auth.evil.com"),
        ("registry.example.com", "registry.example.com.evil.com"),
        ("a.co.uk", "b.co.uk"),
        ("mine.github.io", "theirs.github.io"),
        ("bucket.s3.amazonaws.com", "other.s3.amazonaws.com"),
        ("127.0.0.1", "127.0.0.2"),
        ("10.0.0.1", "0.0.1"),
        ("registry", "auth"),
        ("com", "example.com"),
    ],
)
def test_strangers(one: str, other: str) -> None:
    """Fails without the public-suffix list, or without its private section."""
    assert not related(one, other)


async def test_the_list_is_read_off_the_loop() -> None:
    """Once; `related` then finds it there."""
    _suffixes.cache_clear()
    await load_suffixes()
    assert related("registry-1.docker.io", "auth.docker.io")
    assert _suffixes.cache_info().misses == 1


def test_a_foreign_realm_needs_the_operators_word() -> None:
    asked, realm = URL("https://registry.test"), URL("https://auth.other/token")
    with pytest.raises(UpstreamForbidden, match="`realms`"):
        policy().check_realm(asked, realm)
    policy(realms=("auth.other",)).check_realm(asked, realm)
    with pytest.raises(UpstreamForbidden):
        policy(realms=("other",)).check_realm(asked, realm)


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("https://registry.test", True),
        ("http://127.0.0.1:5000", True),
        ("http://[::1]:5000", True),
        ("http://localhost:5000", True),
        ("http://registry.test", False),
        ("http://10.0.0.1:5000", False),
        ("http://localhost.evil.test", False),
    ],
)
def test_plain_http_is_for_loopback(url: str, *, allowed: bool) -> None:
    """Fails if a password goes over the network in the clear."""
    policy(insecure=True).check_transport(URL(url))
    if allowed:
        policy().check_transport(URL(url))
    else:
        with pytest.raises(UpstreamForbidden, match="insecure = true"):
            policy().check_transport(URL(url))

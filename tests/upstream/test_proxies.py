"""Which proxy, for which URL."""

import pytest
from yarl import URL

from mirror.errors import ConfigInvalid
from mirror.upstream.proxies import Proxies, Proxy
from tests.upstream.support import no_secret_in

PROXY = "http://proxy.test:3128"


def chosen(url: str, configured: str | None = None, **environment: str) -> str | None:
    proxy = Proxies(configured, environment).choose(URL(url))
    return str(proxy.url.origin()) if proxy else None


def test_what_is_configured_knows_no_exception() -> None:
    assert chosen("https://registry.test", PROXY, NO_PROXY="*", HTTPS_PROXY="http://other:1") == PROXY


def test_the_environment_by_scheme() -> None:
    assert chosen("https://a.test", HTTPS_PROXY=PROXY) == PROXY
    assert chosen("http://a.test", HTTPS_PROXY=PROXY) is None
    assert chosen("http://a.test", http_proxy=PROXY, HTTP_PROXY="http://upper:1") == PROXY
    assert chosen("https://a.test", ALL_PROXY=PROXY) == PROXY
    assert chosen("https://a.test", https_proxy="", HTTPS_PROXY=PROXY) == PROXY
    assert chosen("https://a.test") is None


@pytest.mark.parametrize(
    ("url", "exempt"),
    [
        ("https://registry.test", "registry.test"),
        ("https://REGISTRY.test.", "registry.test"),
        ("https://a.registry.test", "registry.test"),
        ("https://a.registry.test", ".registry.test"),
        ("https://a.registry.test", "*.registry.test"),
        ("https://anything.test", "x, *"),
        ("https://10.1.2.3:5000", "10.0.0.0/8"),
        ("https://10.1.2.3:5000", "10.1.2.3"),
        ("https://10.1.2.3:5000", "10.1.2.3:5000"),
        ("https://registry.test:5000", "registry.test:5000"),
        ("https://[fd00::1]", "fd00::/8"),
        ("https://[::1]:5000", "::1"),
        ("https://[::1]:5000", "[::1]:5000"),
        ("http://localhost", "localhost,127.0.0.1"),
    ],
)
def test_no_proxy(url: str, exempt: str) -> None:
    assert chosen(url, ALL_PROXY=PROXY, NO_PROXY=exempt) is None


@pytest.mark.parametrize(
    ("url", "exempt"),
    [
        ("https://notregistry.test", "registry.test"),
        ("https://registry.test.evil", "registry.test"),
        ("https://registry.test", "registry.test:5000"),
        ("https://11.0.0.1", "10.0.0.0/8"),
        ("https://10.1.2.3:5000", "10.1.2.3:5001"),
        ("https://registry.test", "10.0.0.0/8, ,"),
    ],
)
def test_not_exempt(url: str, exempt: str) -> None:
    assert chosen(url, ALL_PROXY=PROXY, NO_PROXY=exempt) == PROXY


def test_the_password_is_taken_off() -> None:
    proxy = Proxy.parse("http://user:pass-word-7@proxy.test:3128/")
    assert proxy.authorization == "Basic dXNlcjpwYXNzLXdvcmQtNw=="
    no_secret_in(proxy, proxy.url)
    assert Proxy.parse("proxy.test:3128").authorization is None


@pytest.mark.parametrize("text", ["socks5://pass-word-7@x:1", "http://", "http://x:pass-word-7@", "http://a%3Ab:c@x:1"])
def test_what_is_no_proxy(text: str) -> None:
    """The text may be half a password, so it is not repeated."""
    with pytest.raises(ConfigInvalid) as caught:
        Proxy.parse(text)
    no_secret_in(caught.value)

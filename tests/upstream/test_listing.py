"""Lists of tags and referrers. What breaks a test is said in its docstring."""

import json

import pytest
from yarl import URL

from mirror.errors import RequestInvalid, UpstreamForbidden, UpstreamInvalid, UpstreamUnreachable
from mirror.oci.digest import Digest
from mirror.upstream.client import RegistrySource
from mirror.upstream.listing import Page, next_link
from tests.support.fake_registry import FakeRegistry
from tests.support.fake_registry import behaviours as b
from tests.support.fake_registry.content import FakeImage
from tests.upstream.support import REPOSITORY, source


async def all_tags(upstream: RegistrySource) -> list[str]:
    names: list[str] = []
    page: str | None = None
    for _ in range(100):
        answer = await upstream.tags(REPOSITORY, page)
        names += answer.names
        page = answer.next
        if page is None:
            return names
    raise AssertionError("the pages never end")


@pytest.mark.parametrize("relative", [True, False])
async def test_tags_page_by_page(
    registry: FakeRegistry, image: FakeImage, upstream: RegistrySource, *, relative: bool
) -> None:
    registry.page_size, registry.relative_links = 3, relative
    expected = sorted(["1", *(f"v{n}" for n in range(10))])
    registry.repository(REPOSITORY.path).tags = dict.fromkeys(expected, image.digest)
    assert await all_tags(upstream) == expected
    assert registry.count("GET */tags/list") == 4


async def test_pages_of_a_registry_that_redirects_and_drops_the_query(
    registry: FakeRegistry, image: FakeImage, upstream: RegistrySource
) -> None:
    """registry.k8s.io's way. Fails if `Link` is resolved against the URL that was asked first: page one for ever."""
    async with FakeRegistry() as other:
        other.content, other.page_size = registry.content, 3
        expected = sorted(["1", *(f"v{n}" for n in range(10))])
        registry.repository(REPOSITORY.path).tags = dict.fromkeys(expected, image.digest)
        registry.script("*", b.redirect(f"{other.url}/v2/{REPOSITORY.path}/tags/list"), times=None)
        assert await all_tags(upstream) == expected
    assert registry.count() == 1


async def test_tags_that_go_round_in_a_circle(
    registry: FakeRegistry, image: FakeImage, upstream: RegistrySource
) -> None:
    """Fails if a page that repeats is followed for ever."""
    circle = f"/v2/{REPOSITORY.path}/tags/list"
    for length in (1, 2, 3, 7):
        registry.unscript()
        for n in range(200):
            registry.script("GET */tags/list", b.header("Link", f'<{circle}?p={n % length}>; rel="next"'))
        assert set(await all_tags(upstream)) == {"1"}


async def test_names_that_are_no_tags_are_left_out(
    registry: FakeRegistry, image: FakeImage, upstream: RegistrySource
) -> None:
    body = json.dumps({"tags": ["ok", "../etc", "a b", "", 7, None, "x" * 129, "\u202eevil"]}).encode()
    registry.script("GET */tags/list", b.status(200, body=body))
    assert (await upstream.tags(REPOSITORY, None)).names == ("ok",)


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"tags": 3}', b"[" * 100_000])
async def test_tags_that_cannot_be_read(
    registry: FakeRegistry, image: FakeImage, upstream: RegistrySource, body: bytes
) -> None:
    registry.script("GET */tags/list", b.status(200, body=body))
    with pytest.raises(UpstreamInvalid):
        await upstream.tags(REPOSITORY, None)


async def test_a_link_that_leads_away(registry: FakeRegistry, image: FakeImage) -> None:
    """To where this mirror listens. Fails if `Link` is followed by other rules than a redirect."""
    async with FakeRegistry() as ours, source(registry.url, listening=lambda: {("127.0.0.1", ours.port)}) as upstream:
        registry.script("GET */tags/list", b.header("Link", f'<{ours.url}/v2/x/tags/list>; rel="next"'))
        page = (await upstream.tags(REPOSITORY, None)).next
        assert page is not None
        with pytest.raises(UpstreamForbidden):
            await upstream.tags(REPOSITORY, page)
        assert ours.requests == []


@pytest.mark.parametrize("page", ["", "x", "1.0123456789abcdef.file:///etc/passwd", "1.0123456789abcdef./v2/"])
async def test_a_page_that_was_not_handed_out(upstream: RegistrySource, page: str) -> None:
    with pytest.raises(RequestInvalid):
        await upstream.tags(REPOSITORY, page)


async def test_referrers_by_the_api(registry: FakeRegistry, image: FakeImage, upstream: RegistrySource) -> None:
    subject = {"subject": {"mediaType": "x/y", "digest": image.digest, "size": 1}, "artifactType": "test/sig"}
    registry.add_image(REPOSITORY.path, None, layers=[1], seed="signature", extra=subject)
    fetched = await upstream.referrers(REPOSITORY, Digest.parse(image.digest))
    assert fetched is not None
    (entry,) = json.loads(fetched.raw)["manifests"]
    assert entry["artifactType"] == "test/sig"


async def test_referrers_in_pages_are_one_list(
    registry: FakeRegistry, image: FakeImage, upstream: RegistrySource
) -> None:
    path = f"/v2/{REPOSITORY.path}/referrers/{image.digest}"
    for number, more in ((1, True), (2, False)):
        index = json.dumps({"schemaVersion": 2, "manifests": [{"number": number}]}).encode()
        headers = {"Content-Type": "application/vnd.oci.image.index.v1+json"}
        headers |= {"Link": f'<{path}?page=2>; rel="next"'} if more else {}
        registry.script("GET */referrers/*", b.status(200, headers=headers, body=index))
    fetched = await upstream.referrers(REPOSITORY, Digest.parse(image.digest))
    assert fetched is not None
    assert json.loads(fetched.raw)["manifests"] == [{"number": 1}, {"number": 2}]


async def test_referrers_by_the_fallback_tag(
    registry: FakeRegistry, image: FakeImage, upstream: RegistrySource
) -> None:
    """Fails if a registry without the API is taken for one without referrers; also where it answers with a page."""
    registry.referrers_api = False
    subject = Digest.parse(image.digest)
    assert await upstream.referrers(REPOSITORY, subject) is None
    index = registry.add_index(REPOSITORY.path, f"sha256-{subject.hex}", [image])
    fetched = await upstream.referrers(REPOSITORY, subject)
    assert fetched is not None
    assert fetched.raw == index.raw
    registry.script("GET */referrers/*", b.status(200, headers={"Content-Type": "text/html"}, body=b"<html>"))
    assert await upstream.referrers(REPOSITORY, subject) is not None
    assert registry.count("GET */manifests/*") == 3


async def test_referrers_in_an_outage(registry: FakeRegistry, image: FakeImage, upstream: RegistrySource) -> None:
    """Fails if an outage passes for "there are none": an empty answer ends a client's search."""
    registry.script("GET */referrers/*", b.status(503))
    with pytest.raises(UpstreamUnreachable):
        await upstream.referrers(REPOSITORY, Digest.parse(image.digest))


@pytest.mark.parametrize(
    ("header", "link"),
    [
        ('</v2/x/tags/list?n=2&last=b>; rel="next"', "/v2/x/tags/list?n=2&last=b"),
        ("<https://host/a,b;c>; rel=next", "https://host/a,b;c"),
        ('</a>; rel="prev", </b>; title="x, y"; rel="next last"', "/b"),
        ('</a>; rel="prev"', None),
        ('</a>; title="rel=next"', None),
        ("/a; rel=next", None),
        ("<" * 20_000, None),
    ],
)
def test_the_next_link(header: str, link: str | None) -> None:
    assert next_link([header]) == link


def test_a_page_survives_its_text() -> None:
    page = Page(URL("http://host/v2/x?last=a%2Fb", encoded=True), 7, "0123456789abcdef")
    assert Page.parse(str(page)) == page

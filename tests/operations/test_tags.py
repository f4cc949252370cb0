"""A repository's tags, upstream's and those held, and how they moved."""

import pytest

from mirror.cache.rights import SOCKET, STRANGER, Principal, Rights
from mirror.errors import NameInvalid, NameUnknown, Offline, RequestInvalid, UpstreamNoAnswer
from mirror.oci.digest import Digest
from mirror.oci.names import Repository
from mirror.operations.tags import TagEntry, TagPage, cursor_after
from mirror.store.protocols import Proof
from tests.cache.scripted import unreachable
from tests.cache.support import nobody
from tests.operations.showing import AMD64, ARM64, NOBODYS, Showing, made_at
from tests.store.samples import ALPINE, NGINX, OWN, TOOL

CREATED = "2024-01-01T00:00:00Z"


async def ask(
    shown: Showing, name: str = "alpine", *, match: str | None = None, limit: int = 100, cursor: str | None = None,
    principal: Principal = SOCKET,
) -> TagPage:  # fmt: skip
    return await shown.tags.tags(principal, name, match=match, limit=limit, cursor=cursor)


async def moves(
    shown: Showing, name: str = "alpine", *, match: str | None = None, limit: int = 100, cursor: str | None = None,
    principal: Principal = SOCKET,
) -> TagPage:  # fmt: skip
    return await shown.tags.history(principal, name, match=match, limit=limit, cursor=cursor)


def names(page: TagPage) -> list[str]:
    return [tag.name for tag in page.tags]


async def test_upstreams_and_held_ones_together() -> None:
    shown = Showing()
    held = await shown.hold(ALPINE, "3", config=made_at(CREATED))
    await shown.hold(ALPINE, "old", config=ARM64)
    await shown.catalog.tag_gone(ALPINE, "old", 1)
    for name in ("3", "4", "latest"):
        shown.world.hub.push(ALPINE, held.manifest, name)
    page = await ask(shown)
    assert page.tags[:2] == (
        TagEntry("3", str(held.digest), ("linux/amd64",), held.size, CREATED, cached=True, gone=False),
        TagEntry("4", None, None, None, None, cached=False, gone=False),
    )
    assert [(tag.name, tag.cached, tag.gone) for tag in page.tags] == [
        ("3", True, False), ("4", False, False), ("latest", False, False), ("old", True, True),
    ]  # fmt: skip
    assert (page.repository, page.next, page.warning, page.history) == ("docker.io/library/alpine", None, None, ())


async def test_platforms_are_those_held_and_no_attestations() -> None:
    shown = Showing()
    amd64, arm64 = await shown.hold(ALPINE, None), await Showing().hold(ALPINE, None, config=ARM64)
    attests = await shown.hold(ALPINE, None, config=NOBODYS)
    await shown.index(
        ALPINE, "3", [(amd64.manifest, AMD64), (arm64.manifest, ARM64), (attests.manifest, NOBODYS, True)]
    )
    (tag,) = (await ask(shown)).tags
    assert tag.platforms == ("linux/amd64",)


async def test_an_upstream_that_does_not_answer_is_a_warning() -> None:
    shown = Showing()
    await shown.hold(ALPINE, "3")
    shown.world.hub.anonymous.down(unreachable())
    page = await ask(shown)
    assert names(page) == ["3"]
    assert page.warning == "docker.io does not answer; only what is held here is listed"
    with pytest.raises(UpstreamNoAnswer):
        await ask(shown, "nginx")


async def test_offline() -> None:
    shown = Showing()
    shown.world.policy.offline = True
    await shown.hold(ALPINE, "3")
    page = await ask(shown)
    assert names(page) == ["3"]
    assert page.warning is not None
    assert "offline" in page.warning
    with pytest.raises(Offline):
        await ask(shown, "nginx")


async def test_own_repositories_are_asked_for_nowhere() -> None:
    shown = Showing(own=["team/app"])
    await shown.hold(OWN, "1", proof=Proof.PUSHED)
    assert (names(await ask(shown, "team/app")), (await ask(shown, "team/app")).repository) == (["1"], "local/team/app")
    assert shown.world.hub.anonymous.asked == []


async def test_a_repository_that_its_registry_has_no_more() -> None:
    shown = Showing()
    await shown.hold(NGINX, "1")
    page = await ask(shown, "nginx")
    assert (names(page), page.warning) == (["1"], None)


async def test_what_is_gone_is_not_listed_where_upstream_is_followed() -> None:
    shown = Showing()
    await shown.hold(ALPINE, "3")
    await shown.hold(ALPINE, "4", config=ARM64)
    await shown.catalog.tag_gone(ALPINE, "3", 1)
    shown.world.policy.keep_gone = False
    assert names(await ask(shown)) == ["4"]


async def test_nothing_at_all() -> None:
    with pytest.raises(NameUnknown) as caught:
        await ask(Showing())
    assert caught.value.exit_code == 4
    with pytest.raises(NameUnknown):
        await moves(Showing())
    with pytest.raises(NameInvalid):
        await ask(Showing(), "Alpine")


async def test_what_may_not_be_seen_is_like_what_is_not_there() -> None:
    """Fails where held tags are not asked for with `Sight.sees`, or upstream not as for this principal."""
    shown = Showing()
    held = await shown.hold(TOOL, "1", proof=Proof.CREDENTIALS)
    shown.world.other.push(TOOL, held.manifest, "1", "2")
    shown.world.other.private.add(TOOL)
    assert names(await ask(shown, "ghcr.io/team/tool")) == ["1", "2"]
    assert names(await ask(shown, "ghcr.io/team/tool")) == ["1", "2"]
    for call in (ask, moves):
        with pytest.raises(NameUnknown) as hidden:
            await call(shown, "ghcr.io/team/tool", principal=STRANGER)
        with pytest.raises(NameUnknown) as missing:
            await call(Showing(), "ghcr.io/team/tool", principal=STRANGER)
        assert (hidden.value.message, hidden.value.detail) == (missing.value.message, missing.value.detail)


async def test_a_private_name_is_unknown_whether_it_is_there_or_not() -> None:
    """Fails where `_meant` does not look at `[access] private`: then docker.io's tags tell that it is not there."""
    said = []
    secret = Repository("local", "team/secret")
    for own in ([], ["team/secret"]):
        rights = Rights(shared=nobody, private=["team/secret*"])
        shown = Showing(own=own, rights=rights)
        public = await shown.hold(ALPINE, None)
        shown.world.hub.push(Repository("docker.io", "team/secret"), public.manifest, "public")
        if own:
            await shown.hold(secret, "1", proof=Proof.PUSHED)
        for call in (ask, moves):
            with pytest.raises(NameUnknown) as caught:
                await call(shown, "team/secret", principal=STRANGER)
            said.append((caught.value.message, caught.value.detail))
        assert names(await ask(shown, "team/secret")) == ["1" if own else "public"]
        assert names(await ask(shown, "docker.io/team/secret", principal=STRANGER)) == ["public"]
    assert said == [("team/secret is not known", {"name": "team/secret"})] * 4


async def test_like_a_pattern() -> None:
    shown = Showing()
    held = await shown.hold(ALPINE, "3.19-alpine")
    for name in ("3.20-alpine", "3.20", "4-alpine"):
        shown.world.hub.push(ALPINE, held.manifest, name)
    assert names(await ask(shown, match="3.*-alpine")) == ["3.19-alpine", "3.20-alpine"]
    assert names(await ask(shown, match="nothing*")) == []
    with pytest.raises(RequestInvalid):
        await ask(shown, match="[")


@pytest.mark.parametrize("limit", [1, 2, 3, 10])
async def test_pages(limit: int) -> None:
    shown = Showing()
    held = await shown.hold(ALPINE, "b")
    for name in ("a", "C", "10", "b", "z"):
        shown.world.hub.push(ALPINE, held.manifest, name)
    found: list[str] = []
    cursor = None
    while True:
        page = await ask(shown, limit=limit, cursor=cursor)
        found += names(page)
        assert len(page.tags) <= limit
        cursor = page.next
        if cursor is None:
            break
    assert found == ["10", "C", "a", "b", "z"]


@pytest.mark.parametrize("cursor", ["%", "é", "A", "__8"])
async def test_cursors_that_are_none(cursor: str) -> None:
    shown = Showing()
    await shown.hold(ALPINE, "3")
    with pytest.raises(RequestInvalid):
        await ask(shown, cursor=cursor)
    for wrong in (cursor, cursor_after("x"), cursor_after("-1"), cursor_after("9" * 30)):
        with pytest.raises(RequestInvalid):
            await moves(shown, cursor=wrong)


# --- history ----------------------------------------------------------------------------------------------------


async def moved(shown: Showing, times: int) -> list[str]:
    """alpine:3 moved so often; where to, newest first."""
    digests = []
    for number in range(times):
        shown.clock.advance(1)
        held = await shown.hold(ALPINE, "3", config={"n": number})
        digests.append(str(held.digest))
    return digests[::-1]


async def test_history_is_newest_first_and_knows_what_was_dropped() -> None:
    shown = Showing()
    digests = await moved(shown, 2)
    await shown.catalog.drop_tag(ALPINE, "3", Digest.parse(digests[0]), 2_000_000_000.0, "me")
    page = await moves(shown)
    assert [(move.name, move.digest, move.actor) for move in page.history] == [
        ("3", None, "me"), ("3", digests[0], "test"), ("3", digests[1], "test"),
    ]  # fmt: skip
    assert page.history[0].at == 2_000_000_000.0
    assert (page.tags, page.next, page.repository) == ((), None, "docker.io/library/alpine")


async def test_history_shows_strangers_the_moves_of_what_they_may_see() -> None:
    """Breaks if a repository that is public now shows how its tags moved while it was private."""
    shown = Showing()
    secret = await shown.hold(ALPINE, "3", config={"n": "secret"}, proof=Proof.CREDENTIALS)
    await shown.catalog.drop_tag(ALPINE, "3", secret.digest, 5, "upstream")
    public = await shown.hold(ALPINE, "3", config={"n": "public"})
    await shown.catalog.drop_tag(ALPINE, "3", public.digest, 6, "upstream")
    told = [move.digest for move in (await moves(shown, principal=STRANGER)).history]
    assert told == [None, str(public.digest)]
    assert len((await moves(shown)).history) == 4


@pytest.mark.parametrize("limit", [1, 2, 3, 7])
async def test_history_in_pages_while_tags_move_on(limit: int) -> None:
    """Fails where a cursor counts from the newest."""
    shown = Showing()
    expected = await moved(shown, 7)
    found: list[str | None] = []
    cursor = None
    while True:
        page = await moves(shown, limit=limit, cursor=cursor)
        found += [move.digest for move in page.history]
        cursor = page.next
        if cursor is None:
            break
        shown.clock.advance(1)
        await shown.hold(ALPINE, "3", config={"later": len(found)})
    assert found == expected


async def test_history_of_some_tags() -> None:
    shown = Showing()
    await moved(shown, 3)
    await shown.hold(ALPINE, "edge", config=ARM64)
    assert [move.name for move in (await moves(shown, match="e*")).history] == ["edge"]
    await shown.hold(NGINX, None)
    with pytest.raises(NameUnknown):
        await moves(shown, "nginx")  # a manifest alone has never had a tag

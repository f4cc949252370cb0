"""Names given by hand: own ones, and tags inside an upstream repository. Each refusal of design.md §5 has its test."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from mirror.cache import ownership
from mirror.cache.content import Cache
from mirror.cache.manifests import Answer
from mirror.cache.policy import Policy
from mirror.cache.rights import LOOPBACK, SOCKET, STRANGER, Action, Principal, Rights, Role, Rule
from mirror.errors import (
    BlobUnknown,
    Conflict,
    Denied,
    ManifestUnknown,
    MirrorError,
    NameInvalid,
    NameUnknown,
    RequestInvalid,
)
from mirror.oci.digest import Digest
from mirror.oci.names import Repository
from mirror.operations import tag as tag_module
from mirror.operations.tag import Tagged
from mirror.store.catalog import Catalog
from mirror.store.inventory import Move
from mirror.store.protocols import Origin
from tests.cache.scripted import Gate, unreachable
from tests.cache.support import nobody, settled
from tests.operations.living import Life
from tests.store.samples import ALPINE, CONFIG, NGINX, OWN, TOOL, digest_of, image, index

APP = Repository("docker.io", "team/app")
ONE = Repository("local", "app")


@pytest.fixture
async def life(catalog: Catalog) -> AsyncIterator[Life]:
    made = Life(catalog)
    yield made
    await made.tasks.drain(0)


async def refused(life: Life, source: str, target: str, kind: type[MirrorError], who: Principal = SOCKET) -> str:
    """Why it is refused; nothing has changed then."""
    before = [
        await life.catalog.own_repositories(),
        [await life.catalog.tags(home) for home in (ALPINE, OWN, APP, NGINX, TOOL, ONE)],
    ]
    with pytest.raises(kind) as caught:
        await life.tag(source, target, who)
    assert type(caught.value) is kind
    after = [
        await life.catalog.own_repositories(),
        [await life.catalog.tags(home) for home in (ALPINE, OWN, APP, NGINX, TOOL, ONE)],
    ]
    assert after == before
    return caught.value.message


# --- own names ------------------------------------------------------------------------------------------------------


async def test_an_own_name(life: Life) -> None:
    manifest = await life.hold(ALPINE, "3.20", "one", "two")
    digest = manifest.descriptor.digest
    assert await life.tag("alpine:3.20", "team/app:1") == Tagged("local/team/app:1", str(digest))
    asked = len(life.hub.anonymous.asked)
    assert life.hub.anonymous.asked[-1] == "tags team/app "

    answer = await life.tags.by_tag(STRANGER, OWN, "1")
    assert (answer.kept.manifest, answer.cache) == (manifest, Cache.HIT)
    assert (await life.manifests.by_digest(STRANGER, OWN, digest)).kept.manifest == manifest
    for text in ("one", "two"):
        assert await life.pull(OWN, digest_of(text), STRANGER) == text.encode()
    assert (await life.content.stat(STRANGER, OWN, Digest.of(CONFIG)))[0] == len(CONFIG)
    assert await life.listings.tags(STRANGER, OWN) == (["1"], None)
    assert await life.listings.referrers(STRANGER, OWN, digest) == []
    assert life.names.repository(OWN.name, "") == OWN
    assert len(life.hub.anonymous.asked) == asked


async def test_what_an_own_repository_lacks_is_asked_of_nobody(life: Life) -> None:
    await life.hold(ALPINE, "3.20", "one")
    await life.tag("alpine:3.20", "team/app:1")
    public = life.offer(APP, image("public"), "2", layers=["public"])
    asked = len(life.hub.anonymous.asked)
    with pytest.raises(ManifestUnknown):
        await life.tags.by_tag(LOOPBACK, OWN, "2")
    with pytest.raises(ManifestUnknown):
        await life.tags.renew(LOOPBACK, OWN, "2")
    with pytest.raises(ManifestUnknown):
        await life.manifests.by_digest(LOOPBACK, OWN, public)
    for read in (life.content.stat(LOOPBACK, OWN, digest_of("public")), life.pull(OWN, digest_of("public"))):
        with pytest.raises(BlobUnknown):
            await read
    assert len(life.hub.anonymous.asked) == asked


async def test_once_own_always_own(life: Life) -> None:
    await life.hold(ALPINE, "3.20", "one")
    await life.tag("alpine:3.20", "team/app:1")
    await life.remove("team/app:1")
    life.offer(APP, image("public"), "1", layers=["public"])
    for _ in range(2):
        assert life.names.repository(APP.name, "") == APP  # said with its registry
        assert life.names.repository(OWN.name, "127.0.0.1:5000") == OWN
        with pytest.raises(ManifestUnknown):
            await life.tags.by_tag(LOOPBACK, OWN, "1")
        assert await life.listings.tags(LOOPBACK, OWN) == ([], None)
        life.begin()  # and after a start
        await life.ownership.load()
    await life.tag("alpine:3.20", "team/app:2")  # nobody is asked again, now that it is known there
    assert life.hub.anonymous.count("tags") == 1


async def test_a_move_is_kept_in_history_with_who_made_it(catalog: Catalog) -> None:
    allow = frozenset({Action.PULL, Action.PUSH})
    rules = [Rule(frozenset({"ci"}), ("team/*",), allow)]
    life = Life(catalog, rights=Rights(shared=nobody, users=True, rules=rules))
    one = (await life.hold(ALPINE, "1", "one")).descriptor.digest
    two = (await life.hold(ALPINE, "2", "two")).descriptor.digest
    await life.tag("alpine:1", "team/app:1", Principal(Role.USER, "ci"))
    life.clock.advance(1)
    await life.tag("alpine:2", "team/app:1", LOOPBACK)
    life.clock.advance(1)
    await life.tag("alpine:1", "team/app:1", SOCKET)
    at = life.clock.wall()
    assert await life.catalog.history(OWN, "1", 9) == [
        Move("1", at, one, "socket"),
        Move("1", at - 1, two, "loopback"),
        Move("1", at - 2, one, "ci"),
    ]


async def test_a_moved_tag_is_seen_at_once(life: Life) -> None:
    first = await life.hold(ALPINE, "1", "one")
    second = await life.hold(ALPINE, "2", "two")
    for manifest in (first, second):
        await life.tag(f"alpine@{manifest.descriptor.digest}", "team/app")
        assert (await life.tags.by_tag(STRANGER, OWN, "latest")).kept.manifest == manifest
        assert life.tags.remembered(STRANGER, OWN, "latest") is not None


async def test_what_is_public_is_refused(life: Life) -> None:
    await life.hold(ALPINE, "3.20", "one")
    life.offer(APP, image("public"), "1")
    text = await refused(life, "alpine:3.20", "team/app:mine", Denied)
    assert text.startswith("team/app is a repository of docker.io")
    assert 'own = ["team/app"]' in text
    assert life.names.repository(OWN.name, "") == APP


async def test_what_only_the_credentials_see_is_refused(catalog: Catalog) -> None:
    life = Life(catalog, credentials=["docker.io"])
    await life.hold(ALPINE, "3.20", "one")
    life.offer(APP, image("public"), "1")
    life.hub.private.add(APP)
    assert "is a repository of docker.io" in await refused(life, "alpine:3.20", "team/app:mine", Denied)


async def test_without_an_answer_it_is_refused_and_says_what_to_write(life: Life) -> None:
    await life.hold(ALPINE, "3.20", "one")
    life.hub.anonymous.script("tags", unreachable())
    text = await refused(life, "alpine:3.20", "team/app:1", Denied)
    assert "docker.io does not answer" in text
    assert 'own = ["team/app"]' in text
    await life.tag("alpine:3.20", "team/app:1")  # it answers again


async def test_whoever_hangs_has_not_answered(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ownership, "ASK_WITHIN", 0.01)
    await life.hold(ALPINE, "3.20", "one")
    life.hub.anonymous.script("tags", Gate())
    assert "no answer in time" in await refused(life, "alpine:3.20", "team/app:1", Denied)


async def test_listed_names_are_asked_of_nobody(catalog: Catalog) -> None:
    life = Life(catalog, own=["team/*"])
    await life.hold(ALPINE, "3.20", "one")
    life.offer(APP, image("public"), "1")
    life.hub.anonymous.script("tags", unreachable())
    assert (await life.tag("alpine:3.20", "team/app:1")).name == "local/team/app:1"
    assert life.hub.anonymous.count("tags") == 0
    await refused(life, "alpine:3.20", "team/deep/app:1", Denied)  # * stops at /


async def test_a_listed_name_is_own_also_where_the_public_one_holds_the_image(catalog: Catalog) -> None:
    life = Life(catalog, own=["team/*"])
    await life.hold(APP, "1", "one")
    assert (await life.tag("docker.io/team/app:1", "team/app:mine")).name == "local/team/app:mine"
    assert (await life.tag("docker.io/team/app:1", "docker.io/team/app:mine")).name == "docker.io/team/app:mine"


async def test_offline_by_choice_nobody_is_asked(life: Life) -> None:
    await life.hold(ALPINE, "3.20", "one")
    life.policy.offline = True
    assert (await life.tag("alpine:3.20", "team/app:1")).name == "local/team/app:1"
    assert life.hub.anonymous.count("tags") == 0


@pytest.mark.parametrize("offline", [False, True])
async def test_library_never(catalog: Catalog, offline: bool) -> None:
    life = Life(catalog, own=["**"])
    await life.hold(ALPINE, "3.20", "one")
    life.policy.offline = offline
    assert "library/" in await refused(life, "alpine:3.20", "library/thing:1", Denied)


async def test_a_name_of_one_word_is_asked_as_the_library_s(life: Life) -> None:
    await life.hold(ALPINE, "3.20", "one")
    assert (await life.tag("alpine:3.20", "app:1")).name == "local/app:1"
    assert life.hub.anonymous.asked[-1] == "tags library/app "
    assert life.names.repository(ONE.name, "") == ONE
    library = Repository("docker.io", "library/app")
    assert life.names.repository(library.name, "") == library
    life.offer(NGINX, image("x"), "1")
    await refused(life, "alpine:3.20", "nginx:1", Denied)


async def test_without_a_default_registry_nothing_is_hidden(catalog: Catalog) -> None:
    life = Life(catalog, default_registry="quay.io")
    await life.hold(ALPINE, "3.20", "one")
    assert (await life.tag("alpine:3.20", "team/app:1")).name == "local/team/app:1"


async def test_half_an_image_is_refused(life: Life) -> None:
    """Its layers would come from nowhere. Breaks without `_check_whole`: no client can pull it."""
    manifest = image("one")
    life.offer(ALPINE, manifest, "3.20", layers=["one"])
    await life.tags.by_tag(LOOPBACK, ALPINE, "3.20")
    assert "pull it first" in await refused(life, "alpine:3.20", "team/app:1", Conflict)
    await life.hold_parts(ALPINE, manifest)
    await life.tag("alpine:3.20", "team/app:1")


async def test_an_index_of_which_one_platform_is_here(life: Life) -> None:
    top = await life.hold_index(ALPINE, "3.20", ["one"], ["two"])
    one, two = (child.descriptor.digest for child in top.children())
    await life.catalog.remove_manifest(ALPINE, two, 1, "me")
    await life.tag("alpine:3.20", "team/app:1")
    assert (await life.manifests.by_digest(STRANGER, OWN, one)).kept.manifest == image("one")
    with pytest.raises(ManifestUnknown):
        await life.manifests.by_digest(STRANGER, OWN, two)


async def test_private_content_is_opened_by_whoever_may_read_it(catalog: Catalog) -> None:
    life = Life(catalog, credentials=["ghcr.io"])
    life.other.private.add(TOOL)
    manifest = await life.hold(TOOL, "1", "secret")
    await refused(life, "ghcr.io/team/tool:1", "team/app:1", ManifestUnknown, STRANGER)
    await life.tag("ghcr.io/team/tool:1", "team/app:1")
    assert (await life.tags.by_tag(STRANGER, OWN, "1")).kept.manifest == manifest
    assert await life.pull(OWN, digest_of("secret"), STRANGER) == b"secret"
    with pytest.raises(MirrorError):
        await life.pull(TOOL, digest_of("secret"), STRANGER)


EVIL = Repository("docker.io", "evil/x")
BOB = Principal(Role.USER, "bob")


async def with_a_secret(catalog: Catalog) -> Life:
    """ghcr.io/team/tool:1 is private and here; Bob, who may not read it, may name images."""
    rules = [Rule(frozenset({"bob"}), ("team/*",), frozenset({Action.PULL, Action.PUSH}))]
    life = Life(catalog, rights=Rights(shared=nobody, users=True, rules=rules), credentials=["ghcr.io"])
    life.other.private.add(TOOL)
    await life.hold(TOOL, "1", "secret")
    return life


async def test_whoever_knows_a_private_manifest_gets_none_of_its_layers(catalog: Catalog) -> None:
    """He has his own repository serve its bytes. Breaks where the layers come from whoever has the manifest too."""
    life = await with_a_secret(catalog)
    secret = image("secret")
    life.hub.push(EVIL, secret, "x")
    await life.tags.by_tag(BOB, EVIL, "x")
    for source in ("docker.io/evil/x:x", secret.descriptor.digest.short, Digest.of(CONFIG).short):
        text = await refused(life, source, "team/app:1", Conflict, BOB)
        assert text.startswith("evil/x:x is not here as a whole")
        assert "pull it first" in text
    assert "pull it first" in await refused(life, "docker.io/evil/x:x", "team/app:1", Conflict, SOCKET)
    with pytest.raises(BlobUnknown):
        await life.pull(OWN, digest_of("secret"), BOB)


async def test_nor_of_an_index_that_names_it(catalog: Catalog) -> None:
    """Breaks where a child is taken from wherever it is."""
    life = await with_a_secret(catalog)
    mine = image("mine")
    life.offer(EVIL, mine, layers=["mine"])
    life.hub.push(EVIL, index([mine, image("secret")]), "x")
    await life.tags.by_tag(BOB, EVIL, "x")
    assert "pull it first" in await refused(life, "docker.io/evil/x:x", "team/app:1", Conflict, BOB)
    await life.manifests.by_digest(BOB, EVIL, mine.descriptor.digest)
    await life.hold_parts(EVIL, mine, BOB)
    await life.tag("docker.io/evil/x:x", "team/app:1", BOB)  # as an index of which one platform is here
    assert await life.pull(OWN, digest_of("mine"), BOB) == b"mine"
    for read in (
        life.pull(OWN, digest_of("secret"), BOB),
        life.manifests.by_digest(BOB, OWN, image("secret").descriptor.digest),
    ):
        with pytest.raises(MirrorError):
            await read


async def test_what_was_private_once_is_taken_by_the_trusted_only(catalog: Catalog) -> None:
    """The repository is public now, and gave strangers the manifest, not the layers yet. Breaks where `tag` does not
    say who asks."""
    life = await with_a_secret(catalog)
    life.other.private.clear()
    digest = image("secret").descriptor.digest
    life.clock.advance(10_000)
    await life.manifests.by_digest(BOB, TOOL, digest)
    source = f"ghcr.io/team/tool@{digest}"
    assert "pull it first" in await refused(life, source, "team/app:1", Conflict, BOB)
    await life.tag(source, "team/app:1", SOCKET)
    await life.hold_parts(TOOL, image("secret"), BOB)
    await life.tag(source, "team/app:2", BOB)


async def test_once_pulled_it_is_whole_there_too(catalog: Catalog) -> None:
    """What the refusal advises helps, and every layer is then under the own name."""
    life = await with_a_secret(catalog)
    secret, other = image("secret"), Repository("ghcr.io", "team/other")
    life.offer(other, secret, "1", layers=["secret"])
    life.other.private.add(other)
    await life.tags.by_tag(SOCKET, other, "1")
    assert "pull it first" in await refused(life, "ghcr.io/team/other:1", "team/app:1", Conflict)
    await life.hold_parts(other, secret)
    await life.tag("ghcr.io/team/other:1", "team/app:1")
    assert await life.pull(OWN, digest_of("secret"), STRANGER) == b"secret"


async def test_public_layers_are_had_from_anywhere(catalog: Catalog) -> None:
    """As a client that has them already, and asks for none of them again, leaves them."""
    life = Life(catalog)
    manifest = await life.hold(ALPINE, "3.20", "one")
    life.offer(NGINX, manifest, "1")
    await life.tags.by_tag(STRANGER, NGINX, "1")
    await life.tag("nginx:1", "team/app:1")
    assert await life.pull(OWN, digest_of("one"), STRANGER) == b"one"


async def test_of_images_with_one_id_one_that_is_whole_is_taken(catalog: Catalog) -> None:
    """Breaks where only the first of them is looked at: docker.io's comes before ghcr.io's."""
    life = await with_a_secret(catalog)
    secret = image("secret")
    life.hub.push(EVIL, secret, "x")
    await life.tags.by_tag(BOB, EVIL, "x")
    await life.tag(secret.descriptor.digest.short, "team/app:1", SOCKET)
    assert await life.pull(OWN, digest_of("secret"), STRANGER) == b"secret"


# --- sources --------------------------------------------------------------------------------------------------------


async def test_an_id_names_a_source(life: Life) -> None:
    manifest = await life.hold(ALPINE, "3.20", "one")
    digest = manifest.descriptor.digest
    for number, source in enumerate((digest.short, str(digest), Digest.of(CONFIG).short, f"alpine@{digest}")):
        assert await life.tag(source, f"team/app:{number}") == Tagged(f"local/team/app:{number}", str(digest))


@pytest.mark.parametrize(
    "source", ["nginx", "alpine:3.21", "0123456789ab", "team/app:1", "alpine@" + str(digest_of("x"))]
)
async def test_a_source_that_is_not_here(life: Life, source: str) -> None:
    await life.hold(ALPINE, "3.20", "one")
    text = await refused(life, source, "team/other:1", ManifestUnknown)
    assert text.startswith("No such image: ")
    assert ManifestUnknown.exit_code == 4


@pytest.mark.parametrize(("target", "kind"), [
    ("team/app@" + str(digest_of("x")), RequestInvalid),
    ("team/app:1@" + str(digest_of("x")), RequestInvalid),
    ("Team/App:1", NameInvalid),
    ("team/app:", NameInvalid),
    ("team/app:-", NameInvalid),
    ("", NameInvalid),
    ("quay.io/team/app:1", NameUnknown),
])  # fmt: skip
async def test_targets_that_are_none(life: Life, target: str, kind: type[MirrorError]) -> None:
    await life.hold(ALPINE, "3.20", "one")
    await refused(life, "alpine:3.20", target, kind)


# --- rights ---------------------------------------------------------------------------------------------------------


async def test_it_needs_the_right_to_push_there(catalog: Catalog) -> None:
    allow = frozenset({Action.PULL, Action.PUSH})
    rules = [Rule(frozenset({"ci"}), ("team/*",), allow)]
    life = Life(catalog, rights=Rights(shared=nobody, users=True, private=["secret/*"], rules=rules))
    await life.hold(ALPINE, "3.20", "one")
    ci = Principal(Role.USER, "ci")
    asked = len(life.hub.anonymous.asked)
    await refused(life, "alpine:3.20", "other/app:1", Denied, ci)
    await refused(life, "alpine:3.20", "docker.io/library/alpine:mine", Denied, ci)
    await refused(life, "alpine:3.20", "alpine:mine", Denied, ci)
    await refused(life, "alpine:3.20", "secret/app:1", NameUnknown, ci)
    assert len(life.hub.anonymous.asked) == asked  # before anybody is asked
    await life.tag("alpine:3.20", "team/app:1", ci)


# --- tags inside an upstream repository -----------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["docker.io/library/alpine:mine", "alpine:mine"])
async def test_a_tag_of_ones_own_beside_upstreams(life: Life, target: str) -> None:
    manifest = await life.hold(ALPINE, "3.20", "one")
    digest = manifest.descriptor.digest
    assert await life.tag("alpine:3.20", target) == Tagged("docker.io/library/alpine:mine", str(digest))
    row = await life.catalog.tag(ALPINE, "mine")
    assert row is not None
    assert row.origin is Origin.LOCAL
    assert await life.catalog.own_repositories() == []
    asked = len(life.hub.anonymous.asked)
    life.clock.advance(10_000)
    assert (await life.tags.by_tag(STRANGER, ALPINE, "mine")).kept.manifest == manifest
    assert (await life.tags.renew(LOOPBACK, ALPINE, "mine")).kept.manifest == manifest
    assert len(life.hub.anonymous.asked) == asked


async def test_it_stands_when_upstream_has_one_of_that_name_later(life: Life) -> None:
    """Until it is removed here. Breaks when a local tag is revalidated."""
    manifest = await life.hold(ALPINE, "3.20", "one")
    await life.tag("alpine:3.20", "alpine:mine")
    theirs = image("theirs")
    life.offer(ALPINE, theirs, "mine", layers=["theirs"])
    life.clock.advance(10_000)
    for _ in range(2):
        assert (await life.tags.by_tag(STRANGER, ALPINE, "mine")).kept.manifest == manifest
        assert (await life.tags.renew(STRANGER, ALPINE, "mine")).kept.manifest == manifest
        life.restart()
    await refused(life, "alpine:3.20", "alpine:mine", Denied)
    await life.remove("alpine:mine")
    assert (await life.tags.by_tag(STRANGER, ALPINE, "mine")).kept.manifest == theirs


async def test_whom_it_is_hidden_from_gets_nothing_of_upstreams_either(catalog: Catalog) -> None:
    """A stranger who may not see what the tag names must not move it to what his registry has. Breaks when a local tag
    that is not visible is asked for like an unknown one."""
    life = Life(catalog, credentials=["docker.io"])
    life.hub.private.add(ALPINE)
    await life.hold(ALPINE, "3.20", "secret")
    await life.tag("alpine:3.20", "alpine:mine")
    life.hub.private.clear()
    life.offer(ALPINE, image("theirs"), "mine", layers=["theirs"])
    life.hub.manifests.pop((ALPINE, image("secret").descriptor.digest))
    with pytest.raises(ManifestUnknown):
        await life.tags.by_tag(STRANGER, ALPINE, "mine")
    row = await life.catalog.tag(ALPINE, "mine")
    assert row is not None
    assert (row.origin, row.manifest) == (Origin.LOCAL, image("secret").descriptor.digest)


async def test_a_lost_manifest_is_fetched_again(life: Life) -> None:
    manifest = await life.hold(ALPINE, "3.20", "one")
    await life.tag("alpine:3.20", "alpine:mine")
    await life.catalog.quarantine(manifest.descriptor.digest)
    life.restart()
    assert (await life.tags.by_tag(LOOPBACK, ALPINE, "mine")).kept.manifest == manifest


async def test_upstreams_own_tag_is_refused(life: Life) -> None:
    await life.hold(ALPINE, "3.20", "one")
    other = await life.hold(ALPINE, "3.19", "two")
    life.offer(ALPINE, other, "edge")  # never asked for here
    for tag in ("3.20", "edge"):
        assert "has a tag" in await refused(life, "alpine:3.19", f"alpine:{tag}", Denied)
    life.hub.anonymous.tells = False
    await refused(life, "alpine:3.19", "alpine:edge", Denied)


async def test_a_head_that_says_neither_yes_nor_no(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the GET does. Breaks where such a HEAD counts as a yes."""
    await life.hold(ALPINE, "3.20", "one")

    async def silent(_: object) -> None:
        return None

    monkeypatch.setattr(life.hub.anonymous, "head", silent)
    await life.tag("alpine:3.20", "alpine:mine")
    assert life.hub.anonymous.asked[-1] == "manifest library/alpine mine"


async def test_what_is_not_linked_there_is_refused(life: Life) -> None:
    await life.hold(ALPINE, "3.20", "one")
    await life.hold(NGINX, "1", "two")
    asked = len(life.hub.anonymous.asked)
    text = await refused(life, "nginx:1", "docker.io/library/alpine:mine", Denied)
    assert "may only name what came from there" in text
    assert len(life.hub.anonymous.asked) == asked


async def test_without_an_answer_no_tag_is_set_there(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    await life.hold(ALPINE, "3.20", "one")
    life.hub.anonymous.script("head", unreachable())
    assert "docker.io does not answer" in await refused(life, "alpine:3.20", "alpine:mine", Denied)
    monkeypatch.setattr(tag_module, "ASK_WITHIN", 0.01)
    life.hub.anonymous.script("head", Gate())
    assert "no answer in time" in await refused(life, "alpine:3.20", "alpine:mine", Denied)


async def test_offline_by_choice_what_is_known_decides(life: Life) -> None:
    await life.hold(ALPINE, "3.20", "one")
    await life.hold(ALPINE, "3.19", "two")
    life.policy.offline = True
    asked = len(life.hub.anonymous.asked)
    await refused(life, "alpine:3.20", "alpine:3.19", Denied)
    await life.tag("alpine:3.20", "alpine:mine")
    await life.tag("alpine:3.19", "alpine:mine")
    await life.catalog.tag_gone(ALPINE, "3.19", 1)
    await life.tag("alpine:3.20", "alpine:3.19")
    assert len(life.hub.anonymous.asked) == asked


async def revalidating(life: Life, gate: Gate) -> asyncio.Task[Answer]:
    """Somebody asks for alpine:3.19, which has grown old, and upstream is just being asked."""
    life.clock.advance(10_000)
    life.hub.anonymous.script("head", gate)
    asking = life.tasks.spawn("ask", life.tags.by_tag(LOOPBACK, ALPINE, "3.19"))
    await gate.reached.wait()
    return asking


@pytest.mark.parametrize("keep_gone", [True, False])
async def test_a_tag_set_while_upstream_says_that_it_is_gone(catalog: Catalog, keep_gone: bool) -> None:
    """It stands. Breaks where `Tags._gone` does not look again: with `on_upstream_gone = "follow"` it is dropped."""
    life, gate = Life(catalog, policy=Policy(keep_gone=keep_gone)), Gate()
    manifest = await life.hold(ALPINE, "3.20", "one")
    await life.hold(ALPINE, "3.19", "two")
    asking = await revalidating(life, gate)
    del life.hub.tags[ALPINE, "3.19"]
    await life.tag("alpine:3.20", "alpine:3.19")
    gate.release()
    assert (await asking).kept.manifest == manifest
    row = await life.catalog.tag(ALPINE, "3.19")
    assert row is not None
    assert (row.manifest, row.origin, row.gone_at) == (manifest.descriptor.digest, Origin.LOCAL, None)


async def test_what_was_asked_before_a_tag_was_set_is_not_remembered_after(
    life: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one who asked goes on after the one who set it. Breaks without `Tags._outdated`: for a whole TTL clients get
    what the tag named before, from memory."""
    manifest = await life.hold(ALPINE, "3.20", "one")
    await life.hold(ALPINE, "3.19", "two")
    confirm = life.catalog.confirm_tag

    async def confirmed_and_moved(*args: Any) -> bool:
        outcome = await confirm(*args)
        await life.catalog.set_tag(ALPINE, "3.19", manifest.descriptor.digest, life.clock.wall(), "me")
        life.tags.forget(ALPINE, "3.19")
        return outcome

    monkeypatch.setattr(life.catalog, "confirm_tag", confirmed_and_moved)
    life.clock.advance(10_000)
    assert (await life.tags.by_tag(LOOPBACK, ALPINE, "3.19")).kept.manifest == image("two")  # he asked before
    assert (await life.tags.by_tag(LOOPBACK, ALPINE, "3.19")).kept.manifest == manifest


async def test_an_image_that_has_the_name_keeps_it(life: Life) -> None:
    """As docker does: no registry is asked, and the tag stays its registry's."""
    await life.hold(ALPINE, "3", "one")
    asked = len(life.hub.anonymous.asked)
    tagged = await life.tag("alpine:3", "docker.io/library/alpine:3")
    assert tagged.name == "docker.io/library/alpine:3"
    row = await life.catalog.tag(ALPINE, "3")
    assert row is not None
    assert (row.origin, len(life.hub.anonymous.asked)) == (Origin.UPSTREAM, asked)


async def test_who_leaves_in_the_middle_has_made_the_name(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    """Breaks if only a request that is still there makes an own name known: it would be asked of a registry until the
    next start."""
    await life.hold(ALPINE, "3", "one")
    gate, set_tag = Gate(), life.catalog.set_tag

    async def slow(*what: Any) -> Any:
        done = await set_tag(*what)
        await gate.wait()
        return done

    monkeypatch.setattr(life.catalog, "set_tag", slow)
    tagging = life.tasks.spawn("client", life.tag("alpine:3", "team/app:1"))
    await gate.reached.wait()
    tagging.cancel()
    await asyncio.wait([tagging])
    assert not life.ownership.is_own("team/app")
    gate.release()
    await settled(lambda: life.ownership.is_own("team/app"))

"""Tag lists and referrers: upstream's and ours together, and nothing that the asker may not know of."""

import json

import pytest

from mirror.cache import listings as listings_module
from mirror.cache import proofs as proofs_module
from mirror.cache.listings import REFERRERS_SECONDS
from mirror.cache.policy import Policy
from mirror.cache.proofs import NEGATIVE_SECONDS
from mirror.cache.rights import LOOPBACK, STRANGER, Principal
from mirror.errors import ManifestUnknown, NameUnknown
from mirror.oci.digest import Digest
from mirror.oci.manifest import OCI_INDEX, Manifest
from mirror.oci.names import Repository
from mirror.store.protocols import Origin, Proof
from mirror.upstream.protocols import Fetched
from tests.cache.scripted import Gate, ScriptedSource, limited, unreachable
from tests.cache.support import World
from tests.store.samples import ALPINE, NGINX, image

IMAGE = image("one")
SUBJECT = IMAGE.descriptor.digest
SIGNATURE, SBOM = image("signature", subject=IMAGE), image("sbom", subject=IMAGE, note="hello")


async def tags(
    world: World, who: Principal = LOOPBACK, repository: Repository = ALPINE
) -> tuple[list[str], str | None]:
    return await world.listings.tags(who, repository)


async def referrers(world: World, who: Principal = LOOPBACK, repository: Repository = ALPINE) -> list[str]:
    return [str(each["digest"]) for each in await world.listings.referrers(who, repository, SUBJECT)]


async def hold(world: World, manifest: Manifest, *names: str, proof: Proof = Proof.ANONYMOUS) -> None:
    digest = manifest.descriptor.digest
    location = await world.store.put(manifest.raw, digest)
    await world.catalog.hold_manifest(ALPINE, manifest, location, proof, world.clock.wall())
    for name in names:
        assert await world.catalog.move_tag(ALPINE, name, None, digest, Origin.UPSTREAM, world.clock.wall(), "test")


# --- tags -------------------------------------------------------------------------------------------------


async def test_upstreams_and_ours_in_ascii_order(world: World) -> None:
    world.hub.push(ALPINE, IMAGE, "b", "B", "3.9", "3.20")
    await hold(world, image("held"), "a", "Z", "b")
    assert await tags(world) == (["3.20", "3.9", "B", "Z", "a", "b"], None)


async def test_every_page_is_read_up_to_a_bound(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.hub.page_size = 2
    world.hub.push(ALPINE, IMAGE, *"abcdefg")
    assert (await tags(world))[0] == list("abcdefg")
    assert world.hub.anonymous.count("tags") == 4
    monkeypatch.setattr(listings_module, "MOST_NAMES", 6)
    world.clock.advance(60)
    cut = "docker.io lists more tags than the 6 that were read"
    assert await tags(world) == (list("abcdef"), cut)
    assert await tags(world) == (list("abcdef"), cut)  # from memory too
    world.clock.advance(60)
    monkeypatch.setattr(listings_module, "PAGES", 2)
    assert (await tags(world))[0] == list("abcd")
    world.clock.advance(60)
    monkeypatch.setattr(listings_module, "PAGES_WITHIN", 0.0)
    assert (await tags(world))[0] == list("ab")


async def test_lists_weigh_what_they_hold(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Breaks if they are remembered by their number: a few repositories with 100,000 tags each would fill memory."""
    monkeypatch.setattr(listings_module, "_REMEMBERED_NAMES", 100)
    small = World()
    for repository in (ALPINE, NGINX):
        small.hub.push(repository, IMAGE, *(f"{n:03}" for n in range(60)))
        await tags(small, repository=repository)
    await tags(small, repository=ALPINE)
    assert small.hub.anonymous.count("tags") == 3


async def test_no_list_in_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proofs_module, "ANSWER_WITHIN", 0.01)
    await hold(world, IMAGE, "held")
    world.hub.anonymous.script("tags", Gate())
    assert await tags(world) == (["held"], "docker.io gave no answer in time; only what is held here is listed")
    world.hub.anonymous.script("referrers", Gate())
    with pytest.raises(ManifestUnknown):
        await referrers(world)


async def test_it_is_remembered_as_long_as_a_tag(world: World) -> None:
    world.hub.push(ALPINE, IMAGE, "a")
    await tags(world)
    world.hub.push(ALPINE, IMAGE, "b")
    world.clock.advance(59)
    assert (await tags(world))[0] == ["a"]
    world.clock.advance(1)
    assert (await tags(world))[0] == ["a", "b"]
    assert world.hub.anonymous.count("tags") == 2


@pytest.mark.parametrize("error", [unreachable(), limited()])
async def test_where_upstream_gives_no_answer_what_is_held_is_listed(world: World, error: Exception) -> None:
    await hold(world, IMAGE, "held")
    world.hub.anonymous.down(error)
    assert await tags(world) == (["held"], f"{error}; only what is held here is listed")


async def test_offline(world: World) -> None:
    await hold(world, IMAGE, "held")
    world.policy.offline = True
    names, warning = await tags(world)
    assert names == ["held"]
    assert warning is not None
    assert world.hub.anonymous.asked == []


@pytest.mark.parametrize("error", [None, unreachable()])
async def test_nothing_at_all_is_an_unknown_name(world: World, error: Exception | None) -> None:
    world.hub.anonymous.down(error)
    with pytest.raises(NameUnknown):
        await tags(world)


async def test_a_repository_that_is_gone_upstream(world: World) -> None:
    await hold(world, IMAGE, "held")
    assert await tags(world) == (["held"], None)


async def test_tags_that_are_gone_are_listed_only_where_they_are_kept(world: World) -> None:
    await hold(world, IMAGE, "gone", "there")
    await world.catalog.tag_gone(ALPINE, "gone", 1.0)
    assert (await tags(world))[0] == ["gone", "there"]
    world.policy.keep_gone = False
    assert (await tags(world))[0] == ["there"]


async def test_private_tags_are_listed_for_the_trusted_only(private_world: World) -> None:
    world = private_world
    await hold(world, image("public"), "public")
    await hold(world, image("secret"), "secret", proof=Proof.CREDENTIALS)
    world.hub.private.add(ALPINE)
    world.hub.push(ALPINE, IMAGE, "new")
    assert (await tags(world, STRANGER))[0] == ["public"]
    assert (await tags(world, LOOPBACK))[0] == ["new", "public", "secret"]
    assert (await tags(world, STRANGER))[0] == ["public"]  # what the trusted saw is not remembered for strangers
    world.clock.advance(NEGATIVE_SECONDS)
    assert (await tags(world, STRANGER))[0] == ["public"]


async def test_a_private_repository_is_an_unknown_name_to_strangers(private_world: World) -> None:
    world = private_world
    await hold(world, IMAGE, "secret", proof=Proof.CREDENTIALS)
    world.hub.private.add(ALPINE)
    messages = []
    for repository in (ALPINE, NGINX):
        with pytest.raises(NameUnknown) as caught:
            await tags(world, STRANGER, repository)
        messages.append(caught.value.message.replace(str(repository), "R"))
    assert messages[0] == messages[1]


# --- referrers --------------------------------------------------------------------------------------------


async def test_referrers_of_both(world: World) -> None:
    world.hub.push(ALPINE, SIGNATURE)
    world.hub.push(ALPINE, SBOM)
    await hold(world, SBOM)
    assert await referrers(world) == [str(SBOM.descriptor.digest), str(SIGNATURE.descriptor.digest)]


async def test_a_held_one_is_described_whole(world: World) -> None:
    await hold(world, SBOM)
    [described] = await world.listings.referrers(LOOPBACK, ALPINE, SUBJECT)
    assert described == {
        "mediaType": SBOM.descriptor.media_type,
        "digest": str(SBOM.descriptor.digest),
        "size": len(SBOM.raw),
        "artifactType": SBOM.artifact_type,
        "annotations": {"note": "hello"},
    }


async def test_the_answer_is_remembered(world: World) -> None:
    world.hub.push(ALPINE, IMAGE)
    assert await referrers(world) == []
    world.hub.push(ALPINE, SIGNATURE)
    world.clock.advance(REFERRERS_SECONDS - 1)
    assert await referrers(world) == []
    world.clock.advance(1)
    assert await referrers(world) == [str(SIGNATURE.descriptor.digest)]
    assert world.hub.anonymous.count("referrers") == 2


async def test_a_registry_without_referrers_has_none(world: World) -> None:
    world.hub.has_referrers = False
    assert await referrers(world) == []
    await hold(world, SBOM)
    assert await referrers(world) == [str(SBOM.descriptor.digest)]


@pytest.mark.parametrize("error", [unreachable(), limited()])
async def test_an_empty_list_is_not_given_where_nothing_can_be_known(world: World, error: Exception) -> None:
    """It would end containerd's search."""
    world.hub.anonymous.down(error)
    with pytest.raises(ManifestUnknown):
        await referrers(world)
    await hold(world, SBOM)
    assert await referrers(world) == [str(SBOM.descriptor.digest)]


async def test_offline_referrers() -> None:
    world = World(policy=Policy(offline=True))
    with pytest.raises(ManifestUnknown):
        await referrers(world)
    await hold(world, SBOM)
    assert await referrers(world) == [str(SBOM.descriptor.digest)]


async def test_private_referrers_are_for_the_trusted(private_world: World) -> None:
    world = private_world
    await hold(world, SBOM, proof=Proof.CREDENTIALS)
    world.hub.private.add(ALPINE)
    assert await referrers(world, STRANGER) == []
    assert await referrers(world, LOOPBACK) == [str(SBOM.descriptor.digest)]


class Referring(ScriptedSource):
    """Gives this as its referrers index."""

    raw = b""

    async def referrers(self, repository: Repository, subject: Digest) -> Fetched | None:
        await super().referrers(repository, subject)
        return Fetched(self.raw, OCI_INDEX, None)


GOOD = {"mediaType": SBOM.descriptor.media_type, "digest": str(SBOM.descriptor.digest), "size": 5, "x-own": "kept"}


@pytest.mark.parametrize(("raw", "expected"), [
    (json.dumps({"schemaVersion": 2, "manifests": [GOOD]}), [GOOD]),
    (json.dumps({"schemaVersion": 2, "manifests": []}), []),
    (json.dumps({"schemaVersion": 2, "manifests": [{**GOOD, "digest": "sha256:../../x"}]}), []),
    (json.dumps({"schemaVersion": 2, "manifests": "many"}), []),
    (json.dumps({"schemaVersion": 2, "layers": []}), []),
    ("<html>", []),
    ("[" * 100_000, []),
])  # fmt: skip
async def test_what_is_no_referrers_list_lists_nothing(world: World, raw: str, expected: list[object]) -> None:
    world.hub.anonymous = referring = Referring(world.hub, anonymous=True)
    referring.raw = raw.encode()
    assert await world.listings.referrers(STRANGER, ALPINE, SUBJECT) == expected

"""Images on their way: what is there already is not sent, and nothing is shown before it is whole."""

import asyncio
import json

import pytest

from mirror.cache import delivery
from mirror.cache.referring import fallback_tag
from mirror.cache.transfer import LAYERS, Counters, Progress, Sent, Step, ignore
from mirror.errors import (
    ManifestBlobUnknown,
    NameUnknown,
    NoRoom,
    Offline,
    UpstreamGone,
    UpstreamRefused,
    UpstreamUnreachable,
)
from mirror.oci.digest import Digest
from mirror.oci.manifest import OCI_CONFIG, OCI_LAYER_GZIP, OCI_MANIFEST, Descriptor, Manifest
from mirror.oci.names import Reference, Repository
from mirror.store.protocols import Proof
from tests.cache.receiving import Office, keep, keep_image, keep_manifest, refused, silent
from tests.cache.scripted import Gate
from tests.store.samples import CONFIG, OWN, TOOL, digest_of, image, index

THERE = Repository("ghcr.io", "me/app")
TARGET = Reference(THERE, "1", None)
CONFIG_DIGEST = Digest.of(CONFIG)
LARGE = "x" * 3_000_000


async def send(office: Office, root: Manifest, target: Reference = TARGET, home: Repository = OWN) -> Sent:
    return await office.transfers.send(await office.pack(home, root), target, tell=office.news.append)


async def send_image(office: Office, *layers: str, target: Reference = TARGET) -> Sent:
    """Hold an image, and send it."""
    root = image(*layers)
    await keep_image(office.world, OWN, root, *layers)
    return await send(office, root, target)


# --- what is missing ------------------------------------------------------------------------------------------------


async def test_what_is_missing_is_sent(office: Office) -> None:
    sent = await send_image(office, "a", "bb")
    assert sent == Sent(layers=2, layers_in_all=2, bytes=5, bytes_in_all=5, mounted=0, existing=0)
    assert office.ghcr.tags == {(THERE, "1"): image("a", "bb").descriptor.digest}
    assert set(office.ghcr.blobs) == {(THERE, digest) for digest in (CONFIG_DIGEST, digest_of("a"), digest_of("bb"))}
    assert office.transfers.sent == {"ghcr.io": Counters(images=1, pushed=3, bytes=5)}
    assert office.steps(digest_of("bb")) == ["pushing", "pushed"]
    assert Progress(digest_of("bb"), 2, is_config=False, step=Step.PUSHED, done=2) in office.news


async def test_a_blob_that_upstream_has_costs_one_head(office: Office) -> None:
    """Breaks where anything more is asked for a layer that is there."""
    await send_image(office, "a", "bb")
    office.ghcr.asked.clear()
    office.news.clear()
    sent = await send_image(office, "a", "bb", target=Reference(THERE, "2", None))
    assert sorted(line.split(" ")[0] for line in office.ghcr.asked) == ["put", "size", "size", "size"]
    assert sent == Sent(layers=0, layers_in_all=2, bytes=0, bytes_in_all=5, mounted=0, existing=2)
    assert office.steps(digest_of("a")) == office.steps(CONFIG_DIGEST) == ["exists"]
    assert office.transfers.sent["ghcr.io"].existing == 3


async def test_one_new_layer_of_nine_is_one_layer(office: Office) -> None:
    layers = [f"layer {number}" for number in range(9)]
    await send_image(office, *layers)
    before = sum(office.ghcr.received.values())
    sent = await send_image(office, *layers[:8], "changed", target=Reference(THERE, "2", None))
    assert (sent.layers, sent.layers_in_all, sent.existing, sent.bytes) == (1, 9, 8, len("changed"))
    assert sum(office.ghcr.received.values()) - before == len("changed")
    assert str(sent) == "sent 1 of 9 layers, 7B of 65B"


async def test_in_another_repository_it_is_mounted(office: Office) -> None:
    await send_image(office, "a")
    before = office.ghcr.received.copy()
    other = Reference(Repository("ghcr.io", "me/other"), "1", None)
    sent = await send_image(office, "a", target=other)
    assert sent == Sent(layers=0, layers_in_all=1, bytes=0, bytes_in_all=3, mounted=1, existing=0)
    assert office.ghcr.received == before
    assert office.steps(digest_of("a"))[-1] == "mounted"
    assert office.news[-1].mounted_from == THERE
    assert office.transfers.sent["ghcr.io"] == Counters(images=2, pushed=2, mounted=2, bytes=3)


async def test_each_registry_is_counted_by_itself(office: Office) -> None:
    await send_image(office, "a")
    await send_image(office, "a", target=Reference(Repository("docker.io", "me/app"), "1", None))
    counted = Counters(images=1, pushed=2, bytes=3)
    assert office.transfers.sent == {"ghcr.io": counted, "docker.io": counted}  # one does not mount from the other


async def test_a_registry_that_hides_its_blobs_may_take_some_all_the_same(office: Office) -> None:
    office.ghcr.script("size", UpstreamGone("403", registry="ghcr.io", refused=True))
    assert (await send_image(office, "a")).layers == 1


async def test_what_may_not_be_distributed_is_skipped(office: Office) -> None:
    layers = [{"mediaType": OCI_LAYER_GZIP, "digest": str(digest_of("w")), "size": 1, "urls": ["https://there"]}]
    config = {"mediaType": OCI_CONFIG, "digest": str(CONFIG_DIGEST), "size": 2}
    body = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": layers}
    root = Manifest.parse(json.dumps(body).encode())
    await keep(office.world, OWN, CONFIG)
    assert (await send(office, root)).layers_in_all == 0
    assert office.steps(digest_of("w")) == ["skipped"]
    assert not any(digest_of("w").short in line for line in office.ghcr.asked)


async def test_a_dry_run_sends_nothing(office: Office) -> None:
    await keep_image(office.world, OWN, image("a", "bb"), "a", "bb")
    office.ghcr.blobs[THERE, digest_of("a")] = b"a"
    parcel = await office.pack(OWN, image("a", "bb"))
    found = await office.transfers.compare(parcel, TARGET, tell=office.news.append)
    assert found == Sent(layers=1, layers_in_all=2, bytes=4, bytes_in_all=5, mounted=0, existing=1)
    assert {line.split(" ")[0] for line in office.ghcr.asked} == {"size"}
    assert office.steps(digest_of("bb")) == ["missing"]


# --- what is not held -----------------------------------------------------------------------------------------------


async def test_what_is_held_nowhere_is_named_before_anything_is_sent(office: Office) -> None:
    """Breaks where it is found out only when its turn comes."""
    await keep_image(office.world, OWN, image("a", "missing"), "a")
    with pytest.raises(ManifestBlobUnknown, match=str(digest_of("missing"))) as caught:
        await send(office, image("a", "missing"))
    assert caught.value.detail == {"digest": str(digest_of("missing"))}
    assert {line.split(" ")[0] for line in office.ghcr.asked} == {"size"}


async def test_what_is_not_held_may_be_there(office: Office) -> None:
    office.ghcr.blobs[THERE, digest_of("missing")] = b"missing"
    await keep_image(office.world, OWN, image("a", "missing"), "a")
    sent = await send(office, image("a", "missing"))
    assert (sent.layers, sent.existing) == (1, 1)


async def test_a_layer_that_the_sender_does_not_see_is_not_sent(office: Office) -> None:
    """Breaks where a registry that lies about what it has is given somebody's private layer: by upload or mount."""
    secret = await keep(office.world, TOOL, b"secret", Proof.CREDENTIALS)
    office.ghcr.blobs[TOOL, secret] = b"secret"
    await keep(office.world, OWN, CONFIG)
    with pytest.raises(ManifestBlobUnknown):
        await send(office, image("secret"))
    assert office.ghcr.received == {}
    assert office.ghcr.count("begin") == 0


async def test_an_index_may_lack_what_is_there(office: Office) -> None:
    children = [image("a"), image("b")]
    await keep_image(office.world, OWN, children[0], "a")
    with pytest.raises(ManifestBlobUnknown, match=str(children[1].descriptor.digest)):
        await send(office, index(children))
    assert office.ghcr.order == []
    office.ghcr.manifests[THERE, children[1].descriptor.digest] = children[1]
    await send(office, index(children))
    assert office.ghcr.order == [children[0].descriptor.digest.short, "1"]


async def test_a_blob_that_goes_meanwhile_is_named(office: Office) -> None:
    await keep_image(office.world, OWN, image("a"), "a")
    parcel = await office.pack(OWN, image("a"))
    await office.world.catalog.quarantine(digest_of("a"))
    with pytest.raises(ManifestBlobUnknown, match=str(digest_of("a"))):
        await office.transfers.send(parcel, TARGET)
    assert office.ghcr.order == []


async def test_a_manifest_that_goes_meanwhile_is_named(office: Office) -> None:
    child = image("a")
    digest = await keep_image(office.world, OWN, child, "a")
    parcel = await office.pack(OWN, index([child]))
    await office.world.catalog.quarantine(digest)
    with pytest.raises(ManifestBlobUnknown, match=str(digest)):
        await office.transfers.send(parcel, TARGET)


# --- manifests ------------------------------------------------------------------------------------------------------


async def test_children_come_first(office: Office) -> None:
    """Breaks where a manifest is put before what it names: the receiver refuses it."""
    children = [image("a"), image("a", "b")]
    for child in children:
        await keep_image(office.world, OWN, child, "a", "b")
    top = index([index(children), children[0]])
    await keep_manifest(office.world, OWN, index(children))
    sent = await send(office, top)
    assert sent.layers == sent.layers_in_all == 2
    shorts = [each.descriptor.digest.short for each in (*children, index(children))]
    assert office.ghcr.order == [*shorts, "1"]


async def test_the_root_goes_under_all_its_names(office: Office) -> None:
    await keep_image(office.world, OWN, image("a"), "a")
    parcel = await office.pack(OWN, image("a"))
    await office.transfers.send(parcel, TARGET, tags=["2", "1", "3"])
    assert office.ghcr.order == ["1", "2", "3"]
    await office.transfers.send(parcel, Reference(THERE, None, parcel.root.descriptor.digest), tags=["4"])
    assert office.ghcr.order[3:] == [parcel.root.descriptor.digest.short, "4"]


async def test_a_tag_that_must_not_move_may_be_there_already(office: Office) -> None:
    await send_image(office, "a")
    office.ghcr.script("put", refused(), refused())
    await send_image(office, "a")
    with pytest.raises(UpstreamRefused):
        await send_image(office, "b")


async def test_a_head_that_does_not_tell_is_asked_by_a_get(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    async def head(_: Reference) -> Descriptor | None:
        return None

    monkeypatch.setattr(office.ghcr, "head", head)
    await send_image(office, "a")
    office.ghcr.script("put", refused())
    await send_image(office, "a")
    assert office.ghcr.count("manifest") == 1


@pytest.mark.parametrize("has_referrers", [True, False])
async def test_a_subject_is_seen_to(office: Office, has_referrers: bool) -> None:
    subject = image("a")
    signature = image("s", subject=subject)
    await send_image(office, "a")
    await keep_image(office.world, OWN, signature, "s")
    office.ghcr.has_referrers = has_referrers
    target = Reference(THERE, None, signature.descriptor.digest)
    await send(office, signature, target)
    tag = fallback_tag(subject.descriptor.digest)
    assert ((THERE, tag) in office.ghcr.tags) == (not has_referrers)


# --- breaks ---------------------------------------------------------------------------------------------------------


async def test_an_image_goes_on_after_a_restart(office: Office) -> None:
    """Breaks where a new process sends again what the registry had acknowledged."""
    await keep_image(office.world, OWN, image("a", LARGE), "a", LARGE)
    gate = Gate()
    office.ghcr.breaks.extend([gate, gate, gate])
    sending = office.world.tasks.spawn("sending", send(office, image("a", LARGE)))
    await gate.reached.wait()
    for _ in range(20):
        await asyncio.sleep(0)
    sending.cancel()
    await asyncio.wait([sending])
    office.restart()
    office.ghcr.breaks.clear()
    sent = await send(office, image("a", LARGE))
    assert office.ghcr.received == {CONFIG_DIGEST: 2, digest_of("a"): 1, digest_of(LARGE): len(LARGE)}
    assert (sent.layers_in_all, sent.bytes_in_all) == (2, 3 + len(LARGE))
    assert sent.bytes < len(LARGE)
    assert office.ghcr.largest_piece <= delivery.PIECE


async def test_two_images_at_once_share_their_layers(office: Office) -> None:
    """Breaks where each sends the common layer; what it cost is counted once."""
    roots = [image(LARGE, "a"), image(LARGE, "b")]
    for root in roots:
        await keep_image(office.world, OWN, root, LARGE, "a", "b")
    sent = await asyncio.gather(*(send(office, root) for root in roots))
    assert office.ghcr.received == {
        CONFIG_DIGEST: 2, digest_of(LARGE): len(LARGE), digest_of("a"): 1, digest_of("b"): 1,
    }  # fmt: skip
    assert sum(each.bytes for each in sent) == len(LARGE) + 4
    assert sorted((each.layers, each.existing) for each in sent) == [(1, 1), (2, 0)]


async def test_few_layers_of_one_image_go_at_once(office: Office) -> None:
    await send_image(office, *(str(number) * 2_000_000 for number in range(8)))
    assert office.ghcr.most_at_once == LAYERS


async def test_one_failure_ends_the_others_and_shows_nothing(office: Office) -> None:
    gate = Gate()
    office.ghcr.breaks.append(gate)
    office.ghcr.script("begin", Gate(), refused())
    with pytest.raises(UpstreamRefused):
        await send_image(office, "a", "b")
    assert office.ghcr.order == []
    await office.world.idle()


async def test_an_outage_is_raised_at_once(office: Office) -> None:
    office.ghcr.down = silent()
    with pytest.raises(UpstreamUnreachable):
        await send_image(office, "a")


async def test_offline_nothing_is_asked(office: Office) -> None:
    office.world.policy.offline = True
    with pytest.raises(Offline, match=r"nothing is sent to ghcr\.io"):
        await send_image(office, "a")
    assert office.ghcr.asked == []


async def test_a_registry_that_is_not_configured(office: Office) -> None:
    with pytest.raises(NameUnknown):
        await send_image(office, "a", target=Reference(Repository("quay.io", "me/app"), "1", None))


async def test_what_exists_need_not_be_written_down(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    async def full(*_: object) -> None:
        raise NoRoom("the disk is full")

    await send_image(office, "a")
    monkeypatch.setattr(office.world.catalog, "at_upstream", full)
    assert (await send_image(office, "a")).existing == 1


def test_nobody_need_listen() -> None:
    ignore(Progress(digest_of("a"), 1, is_config=False, step=Step.EXISTS))

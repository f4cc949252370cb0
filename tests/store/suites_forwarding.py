"""What every catalog does with images that are sent on."""

import pytest

from mirror.oci.names import Reference, Repository
from mirror.store.catalog import Catalog
from mirror.store.forwarding import KNOWN_SECONDS, LONGEST_WAIT, SESSION_SECONDS, OpenUpload, Queued
from mirror.store.protocols import Origin, Proof
from tests.store.samples import ALPINE, NGINX, OWN, TOOL, digest_of, hold_image, hold_index, image, tag
from tests.store.suites_collection import LATER, collect, linked

A, B = digest_of("a"), digest_of("b")
NOW = 1_000_000.0


async def queue(catalog: Catalog, text: str, reference: str, home: Repository = TOOL, at: float = NOW) -> Queued:
    """A push that waits for ghcr.io."""
    digest = await hold_image(catalog, home, image(text), Proof.PUSHED)
    assert await catalog.enqueue(home, reference, digest, "ghcr.io", at)
    return (await catalog.queued(1000))[-1]


async def due(catalog: Catalog, now: float) -> list[str]:
    return [entry.reference for entry in await catalog.queued_due(now)]


class ForwardingSuite:
    """`Forwarding` and `Outbox`."""

    # --- sessions -----------------------------------------------------------------------------------------

    async def test_a_session_is_found_where_it_was_noted(self, catalog: Catalog) -> None:
        await catalog.note_session(TOOL, A, "https://there/1", NOW)
        assert await catalog.session(TOOL, A, NOW) == OpenUpload("https://there/1", NOW)
        assert await catalog.session(ALPINE, A, NOW) is None
        assert await catalog.session(TOOL, B, NOW) is None
        await catalog.note_session(TOOL, A, "https://there/2", NOW + 1)
        assert await catalog.session(TOOL, A, NOW + 1) == OpenUpload("https://there/2", NOW + 1)
        await catalog.end_session(TOOL, A)
        await catalog.end_session(NGINX, A)
        assert await catalog.session(TOOL, A, NOW + 1) is None

    async def test_an_old_session_is_ignored_and_dropped(self, catalog: Catalog) -> None:
        await catalog.note_session(TOOL, A, "https://there/1", NOW)
        assert await catalog.session(TOOL, A, NOW + SESSION_SECONDS - 1) is not None
        assert await catalog.session(TOOL, A, NOW + SESSION_SECONDS) is None
        assert await catalog.session(TOOL, A, NOW - 1) is None  # from the future
        await catalog.note_session(TOOL, B, "https://there/2", NOW + SESSION_SECONDS)
        assert await catalog.session(TOOL, A, NOW) is None

    async def test_its_location_is_not_written_out(self, catalog: Catalog) -> None:
        await catalog.note_session(TOOL, A, "https://there/?secret", NOW)
        assert "secret" not in repr(await catalog.session(TOOL, A, NOW))

    # --- what a registry has ------------------------------------------------------------------------------

    async def test_blobs_are_mounted_from_where_the_registry_has_them(self, catalog: Catalog) -> None:
        other, third = Repository("ghcr.io", "team/other"), Repository("ghcr.io", "team/third")
        await catalog.hold(A, 1, "there", [(TOOL, Proof.CREDENTIALS), (ALPINE, Proof.ANONYMOUS)], NOW)
        await catalog.hold(A, 1, "there", [(third, Proof.PUSHED), (OWN, Proof.PUSHED)], NOW)
        assert await catalog.mountable("ghcr.io", A, 10) == [TOOL]
        await catalog.at_upstream(other, A, NOW + 1)
        assert await catalog.mountable("ghcr.io", A, 10) == [other, TOOL]
        await catalog.at_upstream(TOOL, A, NOW + 2)
        assert await catalog.mountable("ghcr.io", A, 10) == [TOOL, other]
        assert await catalog.mountable("ghcr.io", A, 1) == [TOOL]
        assert await catalog.mountable("docker.io", A, 10) == [ALPINE]
        assert await catalog.mountable("ghcr.io", B, 10) == []

    async def test_the_latest_proof_counts(self, catalog: Catalog) -> None:
        await catalog.hold(A, 1, "there", [(ALPINE, Proof.ANONYMOUS)], 5)
        await catalog.hold(A, 1, "there", [(NGINX, Proof.ANONYMOUS)], 6)
        await catalog.link(ALPINE, A, Proof.CREDENTIALS, 7, is_manifest=False)
        await catalog.link(TOOL, A, Proof.ANONYMOUS, 8, is_manifest=True)  # as a manifest: that cannot be mounted
        assert await catalog.mountable("docker.io", A, 10) == [ALPINE, NGINX]
        assert await catalog.mountable("ghcr.io", A, 10) == []

    async def test_what_a_registry_has_proves_nothing_to_anybody_here(self, catalog: Catalog) -> None:
        """Breaks where it is kept as a link without a proof."""
        digest = await hold_image(catalog, OWN, image("a"), Proof.PUSHED)
        before = await catalog.totals()
        for each in (A, digest):
            await catalog.at_upstream(TOOL, each, NOW)
            assert await linked(catalog, TOOL, each) is None
            assert await linked(catalog, TOOL, each, is_manifest=False) is None
        holding = await catalog.holding(TOOL, A, is_manifest=False)
        assert holding is not None
        assert (holding.link, holding.public) == (None, False)
        assert not await catalog.supplied(TOOL.registry, A, is_manifest=False)
        assert await catalog.repositories(None, 10) == await catalog.own_repositories() == [OWN]
        assert await catalog.homes(A, 10) == [(OWN, False)]
        assert await catalog.totals() == before
        assert not await catalog.set_tag(TOOL, "x", digest, NOW, "me")

    async def test_it_outlives_the_bytes_and_is_forgotten_in_the_end(self, catalog: Catalog) -> None:
        await catalog.at_upstream(TOOL, A, NOW)  # never held here
        assert await catalog.mountable("ghcr.io", A, 10) == [TOOL]
        await catalog.at_upstream(TOOL, B, NOW + KNOWN_SECONDS)
        assert await catalog.mountable("ghcr.io", A, 10) == []

    # --- the outbox ---------------------------------------------------------------------------------------

    async def test_pushes_wait_in_their_order(self, catalog: Catalog) -> None:
        entries = [await queue(catalog, text, text, at=NOW + number) for number, text in enumerate("cab")]
        assert await catalog.queued(10) == entries
        assert await catalog.queued(2) == entries[:2]
        first = entries[0]
        assert (first.repository, first.reference, first.target) == (TOOL, "c", "ghcr.io")
        assert (first.queued_at, first.attempts, first.next_at, first.failure) == (NOW, 0, None, None)
        assert await catalog.queued_entry(first.id) == first
        assert await catalog.queued_entry(99) is None
        assert list(await catalog.queued_due(NOW)) == entries

    async def test_only_what_is_held_waits(self, catalog: Catalog) -> None:
        digest = await hold_image(catalog, TOOL, image("a"))
        assert not await catalog.enqueue(TOOL, "x", digest_of("unknown"), "ghcr.io", NOW)
        assert not await catalog.enqueue(TOOL, "x", A, "ghcr.io", NOW)  # a layer
        await catalog.quarantine(digest)
        assert not await catalog.enqueue(TOOL, "x", digest, "ghcr.io", NOW)
        assert await catalog.queued(10) == []

    async def test_it_goes_to_the_path_that_it_has_here(self, catalog: Catalog) -> None:
        entry = await queue(catalog, "a", "v1", OWN)
        assert entry.destination == Reference(Repository("ghcr.io", "team/app"), "v1", None)
        untagged = await queue(catalog, "a", str(entry.manifest), OWN)
        assert untagged.destination == Reference(Repository("ghcr.io", "team/app"), None, entry.manifest)

    async def test_a_later_push_takes_the_place_of_an_earlier_one(self, catalog: Catalog) -> None:
        """Breaks where it keeps the number: the earlier one's arrival would count as its own."""
        first, other = await queue(catalog, "a", "1"), await queue(catalog, "b", "2")
        await catalog.send_failed(first.id, NOW, NOW + 5, "down", refused=True)
        second = await queue(catalog, "c", "1")
        assert await catalog.queued(10) == [other, second]
        assert (second.attempts, second.failure, second.refused) == (0, None, False)
        assert not await catalog.sent(first.id, first.manifest, 9)
        again = await queue(catalog, "c", "1")
        assert again.id > second.id
        assert not await catalog.sent(second.id, second.manifest, 9)
        assert await catalog.queued(10) == [other, again]

    async def test_a_number_is_given_once(self, catalog: Catalog) -> None:
        """Breaks where the greatest number is given anew: `drop` would take away what nobody meant."""
        first = await queue(catalog, "a", "1")
        assert await catalog.sent(first.id, first.manifest, 9)
        assert (await queue(catalog, "a", "1")).id > first.id

    async def test_what_is_sent_goes_if_it_is_still_what_was_meant(self, catalog: Catalog) -> None:
        entry = await queue(catalog, "a", "1")
        assert not await catalog.sent(entry.id, digest_of("b"), 9)
        assert not await catalog.sent(entry.id, A, 9)
        assert await catalog.sent(entry.id, entry.manifest, 9)
        assert not await catalog.sent(entry.id, entry.manifest, 9)
        assert await catalog.queued(10) == []

    async def test_a_tag_that_has_arrived_is_the_registrys(self, catalog: Catalog) -> None:
        """Breaks where it stays a tag that was set here: its registry would never be asked for it again."""
        entry = await queue(catalog, "a", "1")
        assert await catalog.move_tag(entry.repository, "1", None, entry.manifest, Origin.LOCAL, NOW, "me")
        assert await catalog.sent(entry.id, entry.manifest, NOW + 1)
        tag = await catalog.tag(entry.repository, "1")
        assert tag is not None
        assert (tag.origin, tag.checked_at) == (Origin.UPSTREAM, NOW + 1)

    async def test_what_failed_waits_its_time(self, catalog: Catalog) -> None:
        entry = await queue(catalog, "a", "1")
        await catalog.send_failed(entry.id, NOW, NOW + 5, "ghcr.io does not answer", refused=False)
        await catalog.send_failed(99, NOW, NOW + 5, "no such entry", refused=False)
        known = await catalog.queued_entry(entry.id)
        assert known is not None
        assert (known.attempts, known.tried_at, known.next_at) == (1, NOW, NOW + 5)
        assert (known.failure, known.refused) == ("ghcr.io does not answer", False)
        assert [await due(catalog, at) for at in (NOW, NOW + 4.9, NOW + 5)] == [[], [], ["1"]]

    async def test_a_time_that_is_too_far_away_is_not_believed(self, catalog: Catalog) -> None:
        """Breaks where a clock that was wrong for a moment stops the queue for years."""
        entry = await queue(catalog, "a", "1")
        await catalog.send_failed(entry.id, NOW + 1e9, NOW + 1e9, "down", refused=False)
        assert await due(catalog, NOW) == ["1"]
        assert await due(catalog, NOW + 1e9 - LONGEST_WAIT) == []

    async def test_within_a_repository_nothing_goes_before_what_came_earlier(self, catalog: Catalog) -> None:
        first, second = await queue(catalog, "a", "1"), await queue(catalog, "b", "2")
        await queue(catalog, "c", "3", OWN)
        await catalog.send_failed(first.id, NOW, NOW + 5, "down", refused=False)
        assert await due(catalog, NOW) == ["3"]
        assert await due(catalog, NOW + 5) == ["1", "2", "3"]
        await catalog.send_failed(first.id, NOW, NOW + 5, "denied", refused=True)
        assert await due(catalog, NOW) == ["2", "3"]
        await catalog.send_failed(second.id, NOW, NOW + 5, "down", refused=False)
        assert await due(catalog, NOW) == ["3"]

    @pytest.mark.parametrize("everything", [False, True])
    async def test_retry(self, catalog: Catalog, everything: bool) -> None:
        entries = [await queue(catalog, text, text) for text in "ab"]
        for entry in entries:
            await catalog.send_failed(entry.id, NOW, NOW + 5, "denied", refused=True)
        assert await catalog.retry_queued(None if everything else entries[1].id) == (2 if everything else 1)
        assert await due(catalog, NOW) == (["a", "b"] if everything else ["b"])
        assert await catalog.queued_entry(entries[1].id) == entries[1]
        assert await catalog.retry_queued(99) == 0

    @pytest.mark.parametrize("everything", [False, True])
    async def test_drop(self, catalog: Catalog, everything: bool) -> None:
        entries = [await queue(catalog, text, text) for text in "ab"]
        assert await catalog.drop_queued(None if everything else entries[1].id) == (2 if everything else 1)
        assert await catalog.queued(10) == ([] if everything else entries[:1])
        assert await catalog.drop_queued(99) == 0

    # --- what waits is kept -------------------------------------------------------------------------------

    @pytest.mark.parametrize("end", ["sent", "dropped", "replaced"])
    async def test_what_waits_is_kept_until_it_is_gone(self, catalog: Catalog, end: str) -> None:
        top = await hold_index(catalog, TOOL, [image("a")], Proof.PUSHED)
        assert await catalog.enqueue(TOOL, "1", top, "ghcr.io", NOW)
        entry = (await catalog.queued(1))[0]
        await catalog.remove_manifest(TOOL, top, NOW, "me")
        assert await collect(catalog) == set()
        if end == "sent":
            assert await catalog.sent(entry.id, top, 9)
        elif end == "dropped":
            assert await catalog.drop_queued(entry.id) == 1
        else:
            await queue(catalog, "b", "1")
        assert {top, image("a").descriptor.digest, A} <= await collect(catalog)

    async def test_a_tag_that_goes_leaves_what_waits(self, catalog: Catalog) -> None:
        entry = await queue(catalog, "a", "1")
        await tag(catalog, TOOL, "1", entry.manifest)
        await catalog.remove_tag(TOOL, "1", NOW, "me")
        assert await linked(catalog, TOOL, entry.manifest) is not None

    async def test_what_waits_is_not_evicted(self, catalog: Catalog) -> None:
        digest = await hold_image(catalog, ALPINE, image("a"))
        assert [each.manifest for each in await catalog.candidates(10)] == [digest]
        assert await catalog.enqueue(ALPINE, "1", digest, "ghcr.io", NOW)
        assert await catalog.candidates(10) == []
        assert not await catalog.evict(ALPINE, digest, LATER, LATER)

    async def test_a_manifest_found_bad_may_still_be_dropped(self, catalog: Catalog) -> None:
        entry = await queue(catalog, "a", "1")
        await catalog.quarantine(entry.manifest)
        await catalog.remove_manifest(TOOL, entry.manifest, NOW, "me")
        assert await catalog.begin_delete(entry.manifest) is None
        assert await catalog.drop_queued(entry.id) == 1
        assert await catalog.begin_delete(entry.manifest) is not None
        await catalog.deleted(entry.manifest)
        assert await catalog.states([entry.manifest]) == {}

"""`prune`: what is chosen, and that a run does what a dry run and `df` have foreseen."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from mirror.cache.rights import SOCKET, Action, Principal, Rights, Role, Rule
from mirror.errors import RequestInvalid
from mirror.oci.digest import Digest
from mirror.oci.names import Reference, Repository
from mirror.operations.df import Df
from mirror.operations.images import Page, Totals, Wanted
from mirror.operations.prune import Beyond, Event, Prune, Unneeded
from mirror.operations.remove import Deleted, Freed, Untagged
from mirror.store.catalog import Catalog
from mirror.store.protocols import Partial, Proof
from tests.cache.support import nobody
from tests.operations.living import Life
from tests.store.samples import ALPINE, CONFIG, NGINX, OWN, TOOL, digest_of, image

SIZE = image("x").descriptor.size


@pytest.fixture
async def life(catalog: Catalog) -> AsyncIterator[Life]:
    made = Life(catalog)
    yield made
    await made.tasks.drain(0)


class NoImages:
    """Nobody looks at single images here."""

    async def page(self, principal: Principal, wanted: Wanted, *, limit: int, cursor: str | None) -> Page:
        return Page((), None, Totals(0, 0))


async def run(life: Life, who: Principal = SOCKET, **asked: Any) -> list[Event]:
    prune = Prune(
        catalog=life.catalog,
        store=life.roomy,
        eviction=life.eviction,
        sweep=life.sweep,
        uses=life.uses,
        rights=life.rights,
        names=life.names,
        clock=life.clock,
    )
    return [event async for event in prune.prune(who, Unneeded(**asked))]


async def reclaimable(life: Life) -> int:
    async def nothing() -> int:
        return 0

    df = Df(catalog=life.catalog, store=life.roomy, images=NoImages(), catalog_size=nothing, clock=life.clock)
    return sum(each.reclaimable for each in (await df.report(SOCKET, verbose=False)).types)


def untagged(events: list[Event]) -> set[str]:
    return {event.name for event in events if isinstance(event, Untagged)}


def deleted(events: list[Event]) -> set[Digest]:
    return {Digest.parse(event.digest) for event in events if isinstance(event, Deleted)}


def freed(events: list[Event]) -> int:
    return sum(event.bytes for event in events if isinstance(event, Freed))


async def pruned(life: Life, who: Principal = SOCKET, **asked: Any) -> set[str]:
    """The names that go: those that a dry run foresees, and that with just the bytes it says."""
    life.clock.advance(1)
    stored = sum(map(len, life.store.blobs.values()))
    said = await reclaimable(life)
    foreseen = await run(life, who, dry_run=True, **asked)
    assert stored == sum(map(len, life.store.blobs.values()))
    events = await run(life, who, **asked)
    assert untagged(events) == untagged(foreseen)
    assert deleted(events) == deleted(foreseen)
    gone = stored - sum(map(len, life.store.blobs.values()))
    assert freed(events) == freed(foreseen) == gone
    if asked == {"all": True} and who == SOCKET:
        assert said == gone
        assert await reclaimable(life) == 0
    return untagged(events)


async def some(life: Life) -> None:
    """Six tags in three repositories, each a second after the other."""
    for number in range(3):
        await life.hold(ALPINE, f"3.{number}", f"alpine {number}", "base")
    for number in range(2):
        await life.hold(NGINX, f"1.{number}", f"nginx {number}", "base")
    await life.hold(TOOL, "2", "tool")


NAMES = {
    *(f"docker.io/library/alpine:3.{number}" for number in range(3)),
    *(f"docker.io/library/nginx:1.{number}" for number in range(2)),
    "ghcr.io/team/tool:2",
}


# --- what is chosen -------------------------------------------------------------------------------------------------


async def test_without_a_choice_no_tag_goes(life: Life) -> None:
    await some(life)
    assert await pruned(life) == set()
    old = image("alpine 0", "base").descriptor.digest
    life.hub.push(ALPINE, image("new"), "3.0")
    life.clock.advance(1000)
    await life.tags.by_tag(SOCKET, ALPINE, "3.0")
    assert await pruned(life) == {f"docker.io/library/alpine@{old}"}
    assert await pruned(life) == set()


@pytest.mark.parametrize(
    ("asked", "stays"),
    [
        ({"all": True}, set()),
        ({"keep": 1}, {"docker.io/library/alpine:3.2", "docker.io/library/nginx:1.1", "ghcr.io/team/tool:2"}),
        ({"keep": 2}, NAMES - {"docker.io/library/alpine:3.0"}),
        ({"keep": 0}, set()),
        ({"keep": 9}, NAMES),
        ({"all": True, "references": ("alpine",)}, {name for name in NAMES if "alpine" not in name}),
        (
            {"all": True, "references": ("alpine:*.1", "ghcr.io/*/*")},
            NAMES - {"docker.io/library/alpine:3.1", "ghcr.io/team/tool:2"},
        ),
        ({"all": True, "references": ("docker.io/library/*",)}, {"ghcr.io/team/tool:2"}),
        ({"references": ("alpine",)}, NAMES),
        ({"keep": 1, "references": ("nginx",)}, NAMES - {"docker.io/library/nginx:1.0"}),
        ({"all": True, "until": 0.0}, NAMES),
        ({"all": True, "until": 1e12}, set()),
        ({"max_size": 0}, set()),
        ({"max_size": 1 << 40}, NAMES),
        ({"max_size": 4 * SIZE}, NAMES - {f"docker.io/library/alpine:3.{number}" for number in range(3)}),
    ],
)  # fmt: skip
async def test_what_is_chosen(life: Life, asked: dict[str, Any], stays: set[str]) -> None:
    await some(life)
    assert await pruned(life, **asked) == NAMES - stays
    stored = await life.catalog.stored_bytes()
    if "max_size" in asked:
        assert stored <= asked["max_size"]
    for name in stays:
        assert await life.catalog.tag(*_split(name)) is not None


def _split(name: str) -> tuple[Any, str]:
    reference = Reference.parse(name)
    return reference.repository, str(reference.tag)


async def test_what_cannot_be_reached_takes_nothing_in_vain(life: Life) -> None:
    """Breaks where every image that may go goes, though what is pinned has all of its layers."""
    await some(life)
    for number in range(3):
        await life.catalog.pin(Reference(ALPINE, f"3.{number}", None), "me", 1.0)
    await life.hold(Repository("docker.io", "library/twin"), "1", "alpine 0", "base")
    twin = {"docker.io/library/twin:1"}
    events = await run(life, SOCKET, dry_run=True, max_size=0)
    assert await pruned(life, max_size=0) == {name for name in NAMES if "alpine" not in name}
    (beyond,) = [event for event in events if isinstance(event, Beyond)]
    assert beyond.bytes == await life.catalog.stored_bytes()
    assert await pruned(life, max_size=0) == set()
    assert await pruned(life, all=True) == twin


async def test_until_goes_by_use(life: Life) -> None:
    await some(life)
    await life.uses.flush()
    until = life.clock.wall()
    life.clock.advance(10)
    assert life.tags.remembered(SOCKET, ALPINE, "3.0") is not None  # noted in memory only
    assert await pruned(life, all=True, until=until) == NAMES - {"docker.io/library/alpine:3.0"}


async def test_several_tags_of_one_image_go_together_or_not_at_all(life: Life) -> None:
    await life.hold(ALPINE, "3", "a")
    await life.hold(ALPINE, "latest", "a")
    assert await pruned(life, all=True, references=("alpine:3",)) == set()
    assert await pruned(life, keep=1) == set()
    assert await pruned(life, all=True, references=("alpine:3", "alpine:latest")) == {
        "docker.io/library/alpine:3",
        "docker.io/library/alpine:latest",
    }


async def test_what_must_stay_stays(life: Life) -> None:
    await some(life)
    await life.catalog.pin(Reference(ALPINE, "3.0", None), "me", 1)
    await life.tag("nginx:1.0", "team/app:1")
    await life.catalog.tag_gone(NGINX, "1.1", life.clock.wall())
    upload = b"upload"
    location = await life.roomy.put(upload, Digest.of(upload))
    await life.catalog.hold(Digest.of(upload), 6, location, [(OWN, Proof.PUSHED)], life.clock.wall())
    assert await pruned(life, all=True) == NAMES - {
        "docker.io/library/alpine:3.0",
        "docker.io/library/nginx:1.1",
    }
    assert {Digest.of(data) for data in life.store.blobs.values()} >= {
        *(digest_of(text) for text in ("alpine 0", "base", "nginx 0", "nginx 1", "upload")),
        Digest.of(CONFIG),
    }


async def test_indices_and_what_lost_a_platform(life: Life) -> None:
    top = await life.hold_index(ALPINE, "3", ["a"], ["b", "shared"])
    await life.hold(NGINX, "1", "shared")
    child = top.children()[0].descriptor.digest
    await life.catalog.remove_manifest(ALPINE, child, life.clock.wall(), "me")  # as rmi --platform does
    assert await pruned(life) == set()
    assert child not in {Digest.of(data) for data in life.store.blobs.values()}
    assert await pruned(life, all=True, references=("alpine",)) == {"docker.io/library/alpine:3"}
    assert len(life.store.blobs) == 3


async def test_half_downloads_go_with_all_only(life: Life) -> None:
    ingest = await life.roomy.begin(lambda _: None)
    await ingest.write(b"half")
    await life.catalog.begin_partial(Partial(ingest.id, digest_of("whole"), "docker.io", anonymous=True, started_at=1))
    assert freed(await run(life, all=True)) == 0  # it is open
    await ingest.suspend()
    assert await reclaimable(life) == 4
    assert freed(await run(life)) == 0
    assert freed(await run(life, all=True, dry_run=True)) == 4
    assert freed(await run(life, all=True)) == 4
    assert (await life.roomy.staging(), await life.catalog.partials(), life.room.used) == ({}, [], 0)


async def test_memory_forgets(life: Life) -> None:
    await some(life)
    await run(life, all=True, dry_run=True)
    assert life.tags.remembered(SOCKET, ALPINE, "3.2") is not None
    await run(life, all=True)
    assert life.tags.remembered(SOCKET, ALPINE, "3.2") is None


async def test_a_pattern_that_is_none(life: Life) -> None:
    with pytest.raises(RequestInvalid):
        await run(life, references=("[a",))


async def test_who_administers_some_repositories_prunes_these(catalog: Catalog) -> None:
    rule = Rule(frozenset({"ci"}), ("docker.io/library/alpine",), frozenset({Action.ADMIN, Action.PULL}))
    life = Life(catalog, rights=Rights(shared=nobody, users=True, rules=[rule]))
    await some(life)
    assert await pruned(life, Principal(Role.USER, "ci"), all=True) == {name for name in NAMES if "alpine" in name}
    await life.tasks.drain(0)

"""Who may see what, and whom the mirror asks for whom (design.md §4)."""

import pytest

from mirror.cache.policy import Policy, PushMode, RegistryPolicy
from mirror.cache.proofs import NEGATIVE_SECONDS, proof_of
from mirror.cache.rights import LOOPBACK, SOCKET, STRANGER
from mirror.errors import MirrorError, NameUnknown, Offline, UpstreamGone, UpstreamLimited
from mirror.oci.names import Repository
from mirror.store.protocols import Holding, Link, Proof, RepositoryFacts, Visibility
from mirror.upstream.protocols import Source
from tests.cache.scripted import gone, limited, unreachable
from tests.cache.support import World
from tests.store.samples import ALPINE, NGINX, OWN, digest_of

DAY = 86400.0
ANONYMOUS, CREDENTIALED = ("docker.io", True), ("docker.io", False)
WHAT = ("blob", "something")
ALPINE_BLOB = digest_of("layer")


def holding(link: Link | None = None, *, public: bool = False) -> Holding:
    return Holding(10, "x", link, public)


@pytest.mark.parametrize(("link", "age", "trusted", "seen"), [
    (Link(), 0, True, False),
    (Link(anonymous_at=1.0), 0, False, True),
    (Link(pushed_at=1.0), 0, False, False),  # its registry knows it as private, for all that is known
    (Link(pushed_at=1.0), 0, True, True),
    (Link(credentials_at=0.0), 0, False, False),
    (Link(credentials_at=0.0), 0, True, True),
    (Link(credentials_at=0.0), 7 * DAY, True, True),
    (Link(credentials_at=0.0), 7 * DAY + 1, True, False),
    (Link(credentials_at=0.0), -1, True, False),  # confirmed in the future: the clock lied then, or lies now
    (Link(anonymous_at=1.0, credentials_at=0.0), 30 * DAY, False, True),
])  # fmt: skip
def test_what_a_link_shows(link: Link, age: float, trusted: bool, seen: bool) -> None:
    world = World(credentials=["docker.io"])
    if link.credentials_at is not None:
        link = Link(link.anonymous_at, world.clock.wall() - age, link.pushed_at)
    assert world.proofs.visible(link, ALPINE, trusted=trusted) is seen


@pytest.mark.parametrize(("repository", "push", "credentials", "seen"), [
    (OWN, PushMode.DENY, [], True),
    (ALPINE, PushMode.LOCAL, [], True),
    (ALPINE, PushMode.LOCAL, ["docker.io"], False),
    (ALPINE, PushMode.THROUGH, [], False),  # sent with a login that is not here any more, say
    (ALPINE, PushMode.QUEUE, [], False),
])  # fmt: skip
def test_what_was_pushed_is_shown_to_strangers(
    repository: Repository, push: PushMode, credentials: list[str], seen: bool
) -> None:
    """Breaks if a push through the mirror shows a private image to everybody who reaches it."""
    policy = Policy(registries={repository.registry: RegistryPolicy(push=push)})
    world = World(credentials=credentials, policy=policy)
    assert world.proofs.visible(Link(pushed_at=1.0), repository, trusted=False) is seen
    assert world.proofs.visible(Link(pushed_at=1.0), repository, trusted=True)


@pytest.mark.parametrize(("held", "repository", "visibility", "trusted", "seen"), [
    (holding(Link(anonymous_at=1.0)), ALPINE, Visibility.PRIVATE, False, True),  # made private later: what was public
    (holding(public=True), ALPINE, Visibility.PUBLIC, False, True),
    (holding(public=True), ALPINE, Visibility.PRIVATE, False, False),
    (holding(public=True), ALPINE, Visibility.UNKNOWN, False, False),
    (holding(public=True), ALPINE, Visibility.PRIVATE, True, True),
    (holding(public=False), ALPINE, Visibility.PUBLIC, True, False),
    (holding(public=True), OWN, Visibility.PUBLIC, True, False),  # own repositories go by their links alone
    (holding(Link(pushed_at=1.0)), OWN, Visibility.UNKNOWN, False, True),
])  # fmt: skip
async def test_a_public_blob_is_served_under_any_readable_repository(
    held: Holding, repository: Repository, visibility: Visibility, trusted: bool, seen: bool
) -> None:
    world = World(credentials=["docker.io"])
    await world.catalog.set_visibility(repository, visibility, world.clock.wall())
    assert await world.proofs.blob_visible(held, repository, trusted=trusted) is seen


async def test_without_credentials_every_repository_is_readable() -> None:
    world = World()
    assert await world.proofs.readable(ALPINE, trusted=False)
    assert not await World(credentials=["docker.io"]).proofs.readable(ALPINE, trusted=False)


# --- whom to ask ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("credentials", "trusted", "visibility", "age", "keys"), [
    (False, False, Visibility.UNKNOWN, 0, [ANONYMOUS]),
    (False, True, Visibility.PRIVATE, 0, [ANONYMOUS]),
    (True, False, Visibility.PRIVATE, 0, [ANONYMOUS]),  # for a stranger nothing is asked with credentials
    (True, False, Visibility.PUBLIC, 0, [ANONYMOUS]),
    (True, True, Visibility.UNKNOWN, 0, [ANONYMOUS, CREDENTIALED]),
    (True, True, Visibility.PUBLIC, 0, [ANONYMOUS, CREDENTIALED]),
    (True, True, Visibility.PRIVATE, 600, [CREDENTIALED]),
    (True, True, Visibility.PRIVATE, 601, [ANONYMOUS, CREDENTIALED]),
    (True, True, Visibility.PRIVATE, -1, [ANONYMOUS, CREDENTIALED]),
])  # fmt: skip
async def test_sources(
    credentials: bool, trusted: bool, visibility: Visibility, age: float, keys: list[tuple[str, bool]]
) -> None:
    world = World(credentials=["docker.io"] if credentials else [])
    await world.catalog.set_visibility(ALPINE, visibility, world.clock.wall() - age)
    found = await world.proofs.sources(ALPINE, trusted=trusted)
    assert [source.key for source in found] == keys


async def test_offline_asks_nobody() -> None:
    world = World(policy=Policy(offline=True))
    with pytest.raises(Offline):
        await world.proofs.sources(ALPINE, trusted=True)
    world.policy.offline = False
    assert await world.proofs.sources(ALPINE, trusted=True)


async def test_an_unconfigured_registry_is_an_unknown_name() -> None:
    with pytest.raises(NameUnknown):
        await World().proofs.sources(Repository("quay.io", "a/b"), trusted=True)


def test_payers() -> None:
    world = World(credentials=["docker.io"])
    anonymous, credentialed = world.hub.anonymous, world.hub.credentialed
    assert world.proofs.payers(ALPINE, anonymous) == [credentialed, anonymous]
    assert world.proofs.payers(ALPINE, credentialed) == [credentialed]
    assert World().proofs.payers(ALPINE, anonymous) == [anonymous]


async def yes(source: Source) -> str:
    return "yes"


class Asked:
    """Answers from a script, one per source, and remembers who was asked."""

    def __init__(self, *answers: Exception | None) -> None:
        self.answers = list(answers)
        self.keys: list[bool] = []

    async def __call__(self, source: Source) -> str:
        self.keys.append(source.key[1])
        answer = self.answers.pop(0)
        if answer is not None:
            raise answer
        return "yes"


@pytest.mark.parametrize(("answers", "anonymous", "visibility"), [
    ([None], True, Visibility.PUBLIC),
    ([gone(), None], False, Visibility.PRIVATE),
    ([unreachable(), None], False, Visibility.UNKNOWN),  # no answer without credentials: nothing is said
    ([limited(), None], False, Visibility.UNKNOWN),
])  # fmt: skip
async def test_the_first_answer_counts_and_says_who_may_read(
    answers: list[Exception | None], anonymous: bool, visibility: Visibility
) -> None:
    world = World(credentials=["docker.io"])
    sources = await world.proofs.sources(ALPINE, trusted=True)
    answer, source = await world.proofs.first(sources, ALPINE, WHAT, Asked(*answers))
    assert (answer, source.key[1]) == ("yes", anonymous)
    assert (await world.catalog.repository(ALPINE)).visibility is visibility


@pytest.mark.parametrize(("answers", "error"), [
    ([gone(), gone()], UpstreamGone),
    ([limited(), gone()], UpstreamLimited),
    ([gone(), limited()], UpstreamLimited),
])  # fmt: skip
async def test_it_is_gone_only_where_everybody_says_so(answers: list[Exception], error: type[MirrorError]) -> None:
    world = World(credentials=["docker.io"])
    sources = await world.proofs.sources(ALPINE, trusted=True)
    with pytest.raises(error):
        await world.proofs.first(sources, ALPINE, WHAT, Asked(*answers))
    assert (await world.catalog.repository(ALPINE)).visibility is Visibility.UNKNOWN


async def test_a_no_is_believed_for_a_while_by_source_name_and_kind() -> None:
    world = World(credentials=["docker.io"])
    anonymous = await world.proofs.sources(ALPINE, trusted=False)
    with pytest.raises(UpstreamGone):
        await world.proofs.first(anonymous, ALPINE, WHAT, Asked(gone()))
    with pytest.raises(UpstreamGone):
        await world.proofs.first(anonymous, ALPINE, WHAT, Asked())  # nobody is asked
    # a stranger's no is nobody else's: another source, another name, another kind, another repository
    both = await world.proofs.sources(ALPINE, trusted=True)
    ask = Asked(None)
    assert (await world.proofs.first(both, ALPINE, WHAT, ask))[1].key == CREDENTIALED
    assert ask.keys == [False]
    for repository, what in ((ALPINE, ("manifest", "something")), (ALPINE, ("blob", "other")), (NGINX, WHAT)):
        assert (await world.proofs.first(anonymous, repository, what, Asked(None)))[0] == "yes"
    world.clock.advance(NEGATIVE_SECONDS)
    assert (await world.proofs.first(anonymous, ALPINE, WHAT, Asked(None)))[0] == "yes"


async def test_an_outage_is_asked_about_again() -> None:
    world = World()
    sources = await world.proofs.sources(ALPINE, trusted=False)
    with pytest.raises(UpstreamLimited):
        await world.proofs.first(sources, ALPINE, WHAT, Asked(limited()))
    assert (await world.proofs.first(sources, ALPINE, WHAT, Asked(None)))[0] == "yes"


async def test_where_there_are_no_credentials_nothing_is_written_down() -> None:
    world = World()
    sources = await world.proofs.sources(ALPINE, trusted=False)
    await world.proofs.first(sources, ALPINE, WHAT, yes)
    assert await world.catalog.repository(ALPINE) == RepositoryFacts(Visibility.UNKNOWN, 0.0)


async def test_a_repository_made_private_is_noticed_and_one_made_public_too() -> None:
    world = World(credentials=["docker.io"])
    await world.proofs.first(await world.proofs.sources(ALPINE, trusted=True), ALPINE, WHAT, Asked(None))
    assert (await world.catalog.repository(ALPINE)).visibility is Visibility.PUBLIC
    await world.proofs.first(await world.proofs.sources(ALPINE, trusted=True), ALPINE, WHAT, Asked(gone(), None))
    assert (await world.catalog.repository(ALPINE)).visibility is Visibility.PRIVATE
    world.clock.advance(601)
    await world.proofs.first(await world.proofs.sources(ALPINE, trusted=True), ALPINE, WHAT, Asked(None))
    assert (await world.catalog.repository(ALPINE)).visibility is Visibility.PUBLIC


def test_trust_and_proof() -> None:
    world = World()
    assert [world.proofs.trusted(each, ALPINE) for each in (STRANGER, LOOPBACK, SOCKET)] == [False, True, True]
    assert (proof_of(world.hub.anonymous), proof_of(world.hub.credentialed)) == (Proof.ANONYMOUS, Proof.CREDENTIALS)


@pytest.mark.parametrize("offline", [False, True])
async def test_for_an_own_repository_nobody_is_asked(offline: bool) -> None:
    world = World(credentials=["docker.io"], policy=Policy(offline=offline))
    assert await world.proofs.sources(OWN, trusted=True) == []
    assert await world.proofs.readable(OWN, trusted=False)
    assert not world.proofs.asked_apart(OWN)
    with pytest.raises(UpstreamGone):
        await world.proofs.first([], OWN, WHAT, lambda source: source.size(OWN, ALPINE_BLOB))

"""Which repositories are held, for whom, page by page. What breaks a test is said in its docstring."""

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.cache.ownership import OwnNames
from mirror.cache.rights import LOOPBACK, SOCKET, STRANGER, Principal
from mirror.cache.sight import Sight
from mirror.cache.spelling import Spelling
from mirror.oci.names import LOCAL, Repository
from mirror.operations import catalog as module
from mirror.operations.catalog import Held
from mirror.store.protocols import Proof
from tests.cache.support import World
from tests.store.samples import image

REGISTRIES = ("docker.io", "ghcr.io", "a.io", "a.io-b.com", "a.io:5000", "a.io.b")


def own(path: str) -> Repository:
    return Repository(LOCAL, path)


async def holding(
    repositories: Iterable[Repository], *, default: str = "docker.io", private: Iterable[Repository] = ()
) -> tuple[World, Held]:
    """A world that holds an image in each of these; in those of `private` by the mirror's credentials only."""
    world = World(credentials=["docker.io", "ghcr.io"])
    hidden = set(private)
    for repository in [*repositories, *hidden]:
        proof = Proof.CREDENTIALS if repository in hidden else Proof.PUSHED if repository.is_own else Proof.ANONYMOUS
        made = image(str(repository))
        location = await world.store.put(made.raw, made.descriptor.digest)
        await world.catalog.hold_manifest(repository, made, location, proof, world.clock.wall())
    names = OwnNames(each.path for each in repositories if each.is_own)
    spelling = Spelling(default, names, world.rights.private)
    sight = Sight(rights=world.rights, proofs=world.proofs)
    return world, Held(images=world.catalog, sight=sight, spelling=spelling, registries=REGISTRIES)


async def everything(held: Held, count: int, principal: Principal = LOOPBACK) -> list[str]:
    names: list[str] = []
    last = ""
    while True:
        page, more = await held.page(principal, last, count)
        assert len(page) <= count
        assert page or not more
        assert not page or page[0] > last
        names += page
        if not more:
            return names
        last = page[-1]


paths = st.from_regex(r"[ab0](?:[-.]?[ab0]){0,2}(?:/[ab0]{1,2}){0,2}", fullmatch=True)


def made(registry: str, path: str) -> Repository:
    # what begins like a registry is no own name
    return own(path.replace(".", "-")) if registry == LOCAL else Repository(registry, path)


repositories = st.builds(made, st.sampled_from([*REGISTRIES, LOCAL]), paths)


@given(
    st.sets(repositories, max_size=12),
    st.sampled_from(["docker.io", "ghcr.io"]),
    st.integers(1, 5),
    st.text("ab0-./:io", max_size=8),
)
async def test_every_page_in_order_and_nothing_twice(
    held_here: set[Repository], default: str, count: int, last: str
) -> None:
    """Whatever is behind whatever: compared with the sorted list of all names. Fails if the order of the store is given
    out, or a name is lost between two lists."""
    _, held = await holding(held_here, default=default)
    own_paths = {each.path for each in held_here if each.is_own}
    spelling = Spelling(default, OwnNames(own_paths), lambda _: False)
    expected = sorted(spelling.written(each) for each in held_here)
    assert len(set(expected)) == len(expected)
    assert await everything(held, count) == expected
    behind = [name for name in expected if name > last]
    assert await held.page(LOOPBACK, last, count) == (behind[:count], len(behind) > count)


async def test_more_than_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BATCH", 3)
    many = [Repository("docker.io", f"team/app{n}") for n in range(10)] + [own(f"team/{n}") for n in range(7)]
    _, held = await holding(many)
    assert await everything(held, 4) == sorted(each.path for each in many)


async def test_what_one_may_not_see_is_not_there() -> None:
    """Fails if the name of a private repository is told to a stranger, or a page ends early because of one."""
    public = [Repository("docker.io", f"a/{n}") for n in (1, 3, 5)]
    private = [Repository("docker.io", f"a/{n}") for n in (0, 2, 4, 6)]
    world, held = await holding(public, private=private)
    for count in (1, 2, 3, 100):
        assert await everything(held, count, STRANGER) == ["a/1", "a/3", "a/5"]
        assert await everything(held, count, LOOPBACK) == [f"a/{n}" for n in range(7)]
    assert await held.page(STRANGER, "a/0", 2) == (["a/1", "a/3"], True)
    assert await held.page(STRANGER, "a/4", 2) == (["a/5"], False)
    world.clock.advance(8 * 86400)  # not confirmed for too long
    assert await everything(held, 3, LOOPBACK) == ["a/1", "a/3", "a/5"]
    assert len(await everything(held, 3, SOCKET)) == 7


async def test_a_registry_that_is_no_longer_configured_is_not_listed() -> None:
    """What nobody can pull any more. Fails if a client is shown names that are answered 404."""
    _, held = await holding([Repository("gone.test", "x/y"), Repository("ghcr.io", "x/y")])
    assert await everything(held, 10) == ["ghcr.io/x/y"]
    assert await held.search(LOOPBACK, "x/y", 10) == [Repository("ghcr.io", "x/y")]


async def test_search() -> None:
    names = ("docker.io/library/nginx", "docker.io/team/nginx-plus", "ghcr.io/team/a_b", "ghcr.io/team/axb")
    here = [Repository.parse(name) for name in names]
    secret = Repository("ghcr.io", "me/nginx-secret")
    _, held = await holding([*here, own("tools/nginx")], private=[secret])

    async def found(text: str, limit: int = 10, who: Principal = STRANGER, registry: str | None = None) -> list[str]:
        return [str(each) for each in await held.search(who, text, limit, registry)]

    assert await found("NGINX") == ["docker.io/library/nginx", "docker.io/team/nginx-plus", "local/tools/nginx"]
    assert await found("nginx", who=LOOPBACK, registry="ghcr.io") == ["ghcr.io/me/nginx-secret"]
    assert await found("nginx", registry="ghcr.io") == []
    assert await found("tools/nginx") == ["local/tools/nginx"]
    assert await found("nginx", 1) == ["docker.io/library/nginx"]
    assert await found("a_b") == ["ghcr.io/team/a_b"]
    assert await found("%") == await found("*") == await found("?") == []
    assert await found("lib") == await found("local") == await found("docker") == []
    assert await found("library/ngi") == await found("docker.io/library") == ["docker.io/library/nginx"]
    assert len(await found("")) == 5

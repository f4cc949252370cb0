"""A search, for whoever asks. What breaks a test is said in its docstring."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from mirror.cache.ownership import OwnNames
from mirror.cache.rights import LOOPBACK, SOCKET, STRANGER, Action, Principal, Rights, Role, Rule
from mirror.cache.sight import Sight
from mirror.cache.spelling import Spelling
from mirror.errors import MirrorError, NameInvalid, NameUnknown, NoSearch, Offline, RequestInvalid
from mirror.oci.names import LOCAL, Repository
from mirror.operations.catalog import Held
from mirror.operations.search import Filters, Search
from mirror.store.protocols import Proof
from mirror.upstream.protocols import Found
from tests.cache.scripted import unreachable
from tests.cache.support import World, nobody
from tests.store.samples import image

USER = Principal(Role.USER, "ci")
NGINX = Found("nginx", "The server.", 9000, official=True)
PLUS = Found("team/nginx-plus", stars=5, automated=True)
PRIVATE = Found("me/private")


@dataclass
class Registries:
    """What each registry's search says, without credentials and with them; an error is raised."""

    said: dict[tuple[str, bool], Sequence[Found] | MirrorError] = field(default_factory=dict)
    asked: list[tuple[str, str, int, bool]] = field(default_factory=list)

    async def search(self, registry: str, term: str, limit: int, *, anonymous: bool) -> Sequence[Found]:
        if registry not in ("docker.io", "ghcr.io"):
            raise NameUnknown(f"{registry} is not configured")
        self.asked.append((registry, term, limit, anonymous))
        said = self.said.get((registry, anonymous), NoSearch(f"{registry} offers no search"))
        if isinstance(said, MirrorError):
            raise said
        return said[:limit]


class Scene:
    """A mirror of docker.io and ghcr.io, with what it holds."""

    def __init__(self, *, credentials: Sequence[str] = (), rules: Sequence[Rule] = ()) -> None:
        self.world = World(credentials=credentials, rights=Rights(shared=nobody, users=True, rules=rules))
        self.registries = Registries()
        own = OwnNames(["team/app"])
        spelling = Spelling("docker.io", own, self.world.rights.private)
        sight = Sight(rights=self.world.rights, proofs=self.world.proofs)
        self.held = Held(images=self.world.catalog, sight=sight, spelling=spelling, registries=("docker.io", "ghcr.io"))
        self.search = Search(
            searches=self.registries,
            upstreams=self.world.upstreams,
            held=self.held,
            spelling=spelling,
            rights=self.world.rights,
            policy=self.world.policy,
        )

    async def hold(self, name: str, proof: Proof = Proof.ANONYMOUS) -> None:
        registry, _, path = name.partition("/")
        made = image(name)
        location = await self.world.store.put(made.raw, made.descriptor.digest)
        at = self.world.clock.wall()
        await self.world.catalog.hold_manifest(Repository(registry, path), made, location, proof, at)

    async def names(self, term: str, who: Principal = LOOPBACK, **more: object) -> list[str]:
        results = await self.search.search(who, term, **more)  # type: ignore[arg-type]
        return [result.name for result in results.results]

    async def clients(self, term: str, who: Principal = STRANGER, limit: int = 25) -> list[str]:
        return [result.name for result in await self.search.for_clients(who, term, limit)]


def both(registry: str, said: Sequence[Found]) -> dict[tuple[str, bool], Sequence[Found] | MirrorError]:
    return {(registry, True): said, (registry, False): said}


async def test_what_is_held_is_marked() -> None:
    scene = Scene()
    scene.registries.said |= both("docker.io", [NGINX, PLUS])
    await scene.hold("docker.io/library/nginx")
    results = (await scene.search.search(LOOPBACK, "nginx", limit=7)).results
    assert [(each.name, each.cached) for each in results] == [("nginx", True), ("team/nginx-plus", False)]
    assert (results[0].description, results[0].stars, results[0].official) == ("The server.", 9000, True)
    assert results[1].automated
    assert scene.registries.asked == [("docker.io", "nginx", 7, True)]


async def test_which_registry_is_asked() -> None:
    scene = Scene()
    scene.registries.said |= both("docker.io", [Found("a/x")]) | both("ghcr.io", [Found("b/x")])
    assert await scene.names("x") == ["a/x"]
    assert await scene.names("a/x") == ["a/x"]
    assert await scene.names("ghcr.io/x") == ["ghcr.io/b/x"]
    assert await scene.names("x", registry="GHCR.io:443") == ["ghcr.io/b/x"]
    assert await scene.names("index.docker.io/x") == ["a/x"]
    assert [asked[:2] for asked in scene.registries.asked] == [
        ("docker.io", "x"),
        ("docker.io", "a/x"),
        ("ghcr.io", "x"),
        ("ghcr.io", "x"),
        ("docker.io", "x"),
    ]
    for term, error in (("other.test/x", NameUnknown), ("a..b/x", NameInvalid)):
        with pytest.raises(error):
            await scene.names(term)


async def test_a_name_that_an_own_one_hides_is_written_whole() -> None:
    scene = Scene()
    scene.registries.said |= both("docker.io", [Found("team/app"), Found("team/other")])
    assert await scene.names("team") == ["docker.io/team/app", "team/other"]


async def test_filters() -> None:
    scene = Scene()
    scene.registries.said |= both("docker.io", [NGINX, PLUS])
    assert await scene.names("nginx", filters=["stars=6"]) == ["nginx"]
    assert await scene.names("nginx", filters=["stars=3", "stars=10000"]) == []
    assert await scene.names("nginx", filters=["is-official=false"]) == ["team/nginx-plus"]
    assert await scene.names("nginx", filters=["is-official=T", "is-automated=0"]) == ["nginx"]
    await scene.hold("docker.io/library/nginx")
    await scene.hold("ghcr.io/x/nginx")
    assert await scene.names("nginx", local=True, filters=["is-official=1"]) == ["nginx"]
    assert await scene.names("nginx", local=True, filters=["stars=1"]) == []


@pytest.mark.parametrize(
    "text", ["stars=x", "stars=-1", "stars=", "is-official=yes", "is-automated", "colour=1", "", "="]
)
def test_what_is_no_filter(text: str) -> None:
    with pytest.raises(RequestInvalid, match="invalid filter"):
        Filters.parse([text])


@pytest.mark.parametrize("limit", [0, 101, -1])
async def test_limits(limit: int) -> None:
    with pytest.raises(RequestInvalid, match="outside the range"):
        await Scene().names("x", limit=limit)


async def test_local_asks_nobody() -> None:
    scene = Scene()
    for name in ("docker.io/library/nginx", "ghcr.io/x/nginx", "docker.io/a/b_c", "docker.io/a/bxc"):
        await scene.hold(name)
    await scene.hold("local/team/app", Proof.PUSHED)
    assert await scene.names("nginx", local=True) == ["nginx", "ghcr.io/x/nginx"]
    assert await scene.names("nginx", local=True, registry="ghcr.io") == ["ghcr.io/x/nginx"]
    assert await scene.names("nginx", local=True, limit=1) == ["nginx"]
    assert await scene.names("b_c", local=True) == ["a/b_c"]
    assert await scene.names("b%c", local=True) == await scene.names("b?c", local=True) == []
    assert await scene.names("TEAM/app", local=True) == ["team/app"]
    assert await scene.names("none", local=True) == []
    assert scene.registries.asked == []


# --- who asks ---------------------------------------------------------------------------------------------


async def test_with_whose_eyes_a_registry_is_searched() -> None:
    """Fails if a stranger has the mirror's credentials asked, or is told what only they may see."""
    scene = Scene(
        credentials=["docker.io"],
        rules=[Rule(frozenset({"ci"}), ("docker.io/me/*",), frozenset({Action.PULL}))],
    )
    scene.registries.said = {
        ("docker.io", True): [NGINX],
        ("docker.io", False): [NGINX, PRIVATE, Found("you/private")],
    }
    assert await scene.names("x", STRANGER) == ["nginx"]
    assert {asked[3] for asked in scene.registries.asked} == {True}
    assert await scene.names("x", USER) == ["nginx", "me/private"]
    for who in (LOOPBACK, SOCKET):
        assert await scene.names("x", who) == ["nginx", "me/private", "you/private"]
    assert await scene.clients("x", STRANGER) == ["nginx"]
    assert await scene.clients("x", LOOPBACK) == ["nginx", "me/private", "you/private"]


async def test_cached_is_told_only_to_who_may_see_it() -> None:
    scene = Scene(credentials=["docker.io"])
    scene.registries.said |= both("docker.io", [PRIVATE])
    await scene.hold("docker.io/me/private", Proof.CREDENTIALS)
    for who, cached in ((STRANGER, False), (LOOPBACK, True)):
        assert [each.cached for each in (await scene.search.search(who, "x")).results] == [cached]
    assert await scene.names("private", STRANGER, local=True) == []
    assert await scene.names("private", LOOPBACK, local=True) == ["me/private"]


async def test_a_user_is_shown_what_the_public_search_lacks() -> None:
    """A registry whose catalog needs a login."""
    scene = Scene(credentials=["ghcr.io"], rules=[Rule(frozenset({"*"}), ("ghcr.io/me/*",), frozenset({Action.PULL}))])
    scene.registries.said = {("ghcr.io", False): [PRIVATE, Found("you/x")]}
    assert await scene.names("ghcr.io/x", USER) == ["ghcr.io/me/private"]
    with pytest.raises(NoSearch):
        await scene.names("ghcr.io/x", STRANGER)


# --- no answer --------------------------------------------------------------------------------------------


async def test_offline() -> None:
    scene = Scene()
    scene.world.policy.offline = True
    await scene.hold("docker.io/library/nginx")
    found = await scene.search.search(LOOPBACK, "nginx")
    assert [each.name for each in found.results] == ["nginx"]
    assert found.remark is not None
    assert "offline" in found.remark
    with pytest.raises(Offline) as caught:
        await scene.names("none")
    assert caught.value.exit_code == 9
    assert await scene.clients("nginx") == ["nginx"]
    assert scene.registries.asked == []


async def test_no_search_and_no_answer_are_said() -> None:
    scene = Scene()
    with pytest.raises(NoSearch, match=r"ghcr\.io offers no search"):
        await scene.names("ghcr.io/x")
    scene.registries.said["docker.io", True] = unreachable()
    with pytest.raises(MirrorError, match="does not answer"):
        await scene.names("x")


# --- clients ----------------------------------------------------------------------------------------------


async def test_what_docker_and_podman_get() -> None:
    """Names as they are pulled from here; what is held stands there beside what the registry finds."""
    scene = Scene()
    scene.registries.said |= both("docker.io", [NGINX, PLUS]) | both("ghcr.io", [Found("org/x"), Found("org/y")])
    await scene.hold("ghcr.io/other/nginx")
    await scene.hold("local/team/app", Proof.PUSHED)
    assert await scene.clients("nginx") == ["nginx", "team/nginx-plus", "ghcr.io/other/nginx"]
    assert await scene.clients("nginx", limit=2) == ["nginx", "ghcr.io/other/nginx"]
    assert await scene.clients("ghcr.io/org") == ["ghcr.io/org/x", "ghcr.io/org/y"]
    assert await scene.clients("team/app") == ["nginx", "team/nginx-plus", "team/app"]
    assert scene.registries.asked[-1] == ("docker.io", "team/app", 25, True)


async def test_where_the_registry_has_no_search_what_is_held_is_found() -> None:
    scene = Scene()
    await scene.hold("ghcr.io/org/x")
    await scene.hold("docker.io/ghcr/x")
    assert await scene.clients("ghcr.io/x") == ["ghcr.io/org/x"]
    assert await scene.clients("x") == ["ghcr/x", "ghcr.io/org/x"]
    with pytest.raises(NoSearch):
        await scene.clients("ghcr.io/none")
    with pytest.raises(NameUnknown):
        await scene.clients("other.test/x")


async def test_own_names_are_bare() -> None:
    assert Repository(LOCAL, "team/app").is_own
    scene = Scene()
    scene.registries.said |= both("docker.io", [Found("team/app")])
    await scene.hold("local/team/app", Proof.PUSHED)
    assert await scene.clients("team/app") == ["docker.io/team/app", "team/app"]

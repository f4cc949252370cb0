"""Whatever is tagged: no public name is hidden without right, no own name answers what names a registry."""

import asyncio
from typing import Literal

from hypothesis import given, settings
from hypothesis import strategies as st

from mirror.errors import Denied
from mirror.oci import routes
from mirror.oci.names import LOCAL, Repository
from tests.cache.scripted import unreachable
from tests.operations.living import Life
from tests.store.samples import ALPINE, TOOL, image

NAMES = ("team/app", "team/other", "acme/app", "app", "library/app", "alpine", "team/deep/app")
State = Literal["up", "down", "offline"]
Step = tuple[str, State, bool]  # what is tagged, how its registry is, whether the name is made public just before
STEPS = st.lists(
    st.tuples(st.sampled_from(NAMES), st.sampled_from(["up", "down", "offline"]), st.booleans()),
    min_size=1,
    max_size=12,
)
GLOBS = st.lists(st.sampled_from(["team/*", "acme/**", "*", "**"]), max_size=2)


def may_be_made(life: Life, name: str, state: State) -> bool:
    """Whether design.md §5 lets this name become own now."""
    if name.startswith("library/"):
        return False
    if life.ownership.is_own(name) or life.ownership.declares(name) or state == "offline":
        return True
    public = Repository("docker.io", name)
    return state == "up" and not any(home == public for home, _ in life.hub.tags)


@settings(max_examples=60)
@given(STEPS, GLOBS)
def test_whatever_is_tagged(steps: list[Step], globs: list[str]) -> None:
    asyncio.run(run(steps, globs))


async def run(steps: list[Step], globs: list[str]) -> None:
    life = Life(own=globs)
    for home in (ALPINE, TOOL):
        await life.hold(home, "1", home.path)
    made: set[str] = set()
    for name, state, becomes_public in steps:
        if becomes_public:
            life.offer(Repository("docker.io", name), image("public"), "public")
        life.policy.offline = state == "offline"
        life.hub.anonymous.down(unreachable() if state == "down" else None)
        inside = name == "alpine" and name not in made and not life.ownership.declares(name)
        # an own name is never made of what the public one holds itself: that is a tag inside it
        source = "docker.io/library/alpine:1" if inside else "ghcr.io/team/tool:1"
        allowed = state != "down" if inside else may_be_made(life, name, state)
        try:
            await life.tag(source, f"{name}:mine")
        except Denied:
            assert not allowed
        else:
            assert allowed
            if not inside:
                made.add(name)
        await check(life, made)
    life.begin()
    await life.ownership.load()
    await check(life, made)
    await life.tasks.drain(0)


async def check(life: Life, made: set[str]) -> None:
    assert {home.path for home in await life.catalog.own_repositories()} == made
    for name in NAMES:
        bare = routes.parse(f"/v2/{name}/manifests/mine")
        assert isinstance(bare, routes.ManifestRoute)
        meant = life.names.repository(bare.name, "127.0.0.1:5000")
        assert meant == (Repository(LOCAL, name) if name in made else Repository("docker.io", name))
        for path, query, host in (
            (f"/v2/{name}/manifests/mine", "ns=docker.io", "127.0.0.1:5000"),
            (f"/v2/docker.io/{name}/manifests/mine", "", "127.0.0.1:5000"),
            (f"/docker.io/v2/{name}/manifests/mine", "", "127.0.0.1:5000"),
            (f"/v2/{name}/manifests/mine", "", "registry-1.docker.io"),
        ):
            route = routes.parse(path, query)
            assert isinstance(route, routes.ManifestRoute)
            assert life.names.repository(route.name, host) == Repository("docker.io", name)

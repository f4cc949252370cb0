"""Where a push goes, and whether it may."""

import pytest

from mirror.cache.policy import PushMode
from mirror.cache.rights import LOOPBACK, SOCKET, STRANGER, Action, Principal, Rights, Role, Rule
from mirror.errors import Denied, NameUnknown, Unauthorized, Unsupported
from mirror.oci.names import LOCAL, Name, Repository
from tests.cache.pushing import Desk
from tests.cache.scripted import unreachable
from tests.cache.support import nobody
from tests.store.samples import ALPINE, OWN, TOOL, image

ME = Principal(Role.USER, "me")
HOST = "127.0.0.1:5000"


def rights(**more: object) -> Rights:
    rules = [Rule(frozenset({"me"}), ("team/*", "ghcr.io/team/*"), frozenset({Action.PUSH, Action.PULL}))]
    return Rights(shared=nobody, users=True, rules=rules, private=["team/hidden"], **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "host", "meant"), [
    (Name(None, "team/app"), HOST, OWN),
    (Name(None, "alpine"), HOST, Repository(LOCAL, "alpine")),
    (Name(None, "library/alpine"), HOST, Repository(LOCAL, "library/alpine")),
    (Name("ghcr.io", "team/tool"), HOST, TOOL),
    (Name("docker.io", "alpine"), HOST, ALPINE),
    (Name(None, "team/tool"), "ghcr.io", TOOL),
    (Name(None, "alpine"), "registry-1.docker.io", ALPINE),
    (Name(None, "team/app"), "", OWN),
])  # fmt: skip
def test_without_a_registry_the_mirrors_own_is_meant(name: Name, host: str, meant: Repository) -> None:
    """Also where a pull of that name leads to the default registry."""
    assert Desk().targets.meant(name, host) == meant


def test_a_registry_that_is_not_configured() -> None:
    with pytest.raises(NameUnknown):
        Desk().targets.meant(Name("quay.io", "a/b"), HOST)


@pytest.mark.parametrize("mode", list(PushMode))
async def test_under_a_registrys_name_its_setting_decides(mode: PushMode) -> None:
    desk = Desk(push=mode)
    assert desk.targets.mode(TOOL) is mode
    assert desk.targets.mode(OWN) is PushMode.LOCAL
    if mode is PushMode.DENY:
        for refused in (desk.targets.permit(SOCKET, TOOL), desk.targets.permit(LOOPBACK, TOOL)):
            with pytest.raises(Unsupported) as error:
                await refused
            assert error.value.detail == {"registry": "ghcr.io", "push": "deny"}
        with pytest.raises(Unsupported):
            desk.targets.permit_removal(SOCKET, TOOL)
        with pytest.raises(Unsupported):
            desk.targets.check_mode(TOOL)
    else:
        await desk.targets.permit(LOOPBACK, TOOL)
        desk.targets.permit_removal(SOCKET, TOOL)
    desk.targets.check_mode(OWN)
    assert desk.other.anonymous.asked == desk.hub.anonymous.asked == []


async def test_a_name_that_may_become_own() -> None:
    desk = Desk()
    await desk.targets.permit(LOOPBACK, OWN)
    assert desk.hub.anonymous.asked == ["tags team/app "]
    desk.targets.made(OWN)
    desk.targets.made(TOOL)
    assert [path in desk.own for path in ("team/app", "team/tool")] == [True, False]
    desk.hub.push(Repository("docker.io", "team/app"), image("a"), "1")
    desk.hub.anonymous.down(unreachable())
    await desk.targets.permit(LOOPBACK, OWN)


async def test_a_name_that_may_not() -> None:
    desk = Desk()
    desk.hub.push(ALPINE, image("a"), "1")
    for path in ("library/x", "alpine"):
        with pytest.raises(Denied):
            await desk.targets.permit(SOCKET, Repository(LOCAL, path))
    desk.hub.anonymous.down(unreachable())
    with pytest.raises(Denied, match=r'own = \["team/app"\]'):
        await desk.targets.permit(SOCKET, OWN)
    await Desk(own=["team/*"]).targets.permit(SOCKET, OWN)


async def test_who_may() -> None:
    desk = Desk(rights=rights())
    elsewhere = Repository(LOCAL, "else/app")
    for principal, home, error in (
        (STRANGER, OWN, Unauthorized),
        (ME, elsewhere, Denied),
        (ME, ALPINE, Denied),
        (Principal(Role.USER, "you"), OWN, Denied),
        (Principal(Role.USER, "you"), Repository(LOCAL, "team/hidden"), NameUnknown),
    ):
        with pytest.raises(error):
            await desk.targets.permit(principal, home)
    for principal, home in ((ME, OWN), (ME, TOOL), (LOOPBACK, OWN), (LOOPBACK, TOOL), (SOCKET, OWN)):
        await desk.targets.permit(principal, home)
    assert desk.hub.anonymous.count("tags") == 3  # nobody is asked for who may not


async def test_who_may_delete() -> None:
    desk = Desk(rights=rights())
    desk.targets.made(OWN)
    for principal in (STRANGER, LOOPBACK, ME):
        with pytest.raises((Unauthorized, Denied)):
            desk.targets.permit_removal(principal, OWN)
    desk.targets.permit_removal(SOCKET, OWN)
    desk.targets.permit_removal(SOCKET, TOOL)
    with pytest.raises(NameUnknown):
        desk.targets.permit_removal(SOCKET, Repository(LOCAL, "team/none"))
    everything = Desk(rights=rights(loopback="all"))
    everything.targets.made(OWN)
    everything.targets.permit_removal(LOOPBACK, OWN)

"""`POST /api/v1/push`: who may, what goes wrong, and what is left as it was."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.faults.support import MIB, begin, stored, until
from tests.operations.pushing import UPLOADS, Way, is_large, push_as_ci, way, with_ci
from tests.operations.streams import execute, of, one
from tests.support.fake_registry import Gate, Intake
from tests.support.fake_registry.behaviours import status

NAME = "docker.io/library/alpine:3"


@pytest.fixture
async def at(tmp_path: Path) -> AsyncIterator[Way]:
    async with way(tmp_path) as made:
        yield made


# --- who may ----------------------------------------------------------------------------------------------


async def test_a_registry_that_is_not_configured(at: Way) -> None:
    (refused,) = await at.push("alpine:3", to="quay.io/me")
    assert (refused["status"], refused["errors"][0]["detail"]["exit_code"]) == (404, 4)


async def test_the_target_has_to_be_his_and_the_source_seen(tmp_path: Path) -> None:
    """Breaks if the right to push anywhere lets him push everywhere, or lets him send what he may not see."""
    async with way(tmp_path, hub={"username": "me", "password": "pw"}, access=with_ci(tmp_path)) as at:
        at.hub.access.scheme, at.hub.access.users, at.hub.access.private = "bearer", {"me": "pw"}, ["team/private"]
        at.hub.add_image("library/alpine", "3")
        at.hub.add_image("team/private", "1", seed="private")
        await at.pull("alpine:3", "team/private:1")
        assert one(await push_as_ci(at, "alpine:3", "ghcr.io/me/x"), "pushed")
        assert one(await push_as_ci(at, "alpine:3", "ghcr.io/you"), "error")["exit_code"] == 5
        before = at.ghcr.received()
        hidden = one(await push_as_ci(at, "team/private:1", "ghcr.io/me/x"), "error")
        unknown = one(await push_as_ci(at, "team/nothing:1", "ghcr.io/me/x"), "error")
        assert hidden["message"].replace("private", "nothing") == unknown["message"]
        assert (hidden["exit_code"], at.ghcr.received()) == (4, before)
        assert (await at.pushed("team/private:1", to="ghcr.io/me/x"))["sent_layers"] == 3  # the socket may


async def test_a_name_that_he_may_not_know_is_not_told(tmp_path: Path) -> None:
    """Breaks if "Mounted from" tells the name of a private repository."""
    async with way(tmp_path, ghcr={"username": "me", "password": "pw"}, access=with_ci(tmp_path)) as at:
        at.hub.add_image("library/alpine", "3")
        await at.pull("alpine:3")
        assert (await at.pushed("alpine:3", to="ghcr.io/secret"))["sent_layers"] == 3
        events = await push_as_ci(at, "alpine:3", "ghcr.io/me/x")
        mounted = [event for event in of(events, "layer") if event["state"] == "mounted"]
        assert [event["mounted_from"] for event in mounted] == [None] * 3
        assert "secret" not in str(events)


# --- what goes wrong --------------------------------------------------------------------------------------


async def test_a_refusal_is_the_registrys(at: Way) -> None:
    at.hub.add_image("library/alpine", "3")
    await at.pull("alpine:3")
    at.ghcr.script("POST *", status(403), times=None)
    error = one(await at.push("alpine:3", to="ghcr.io/me"), "error")
    assert (error["exit_code"], error["code"]) == (5, "DENIED")
    assert "ghcr.io" in error["message"]


async def test_offline(at: Way) -> None:
    at.hub.add_image("library/alpine", "3")
    await at.pull("alpine:3")
    at.mirror.app.policy.offline = True
    assert (await at.failed("alpine:3", to="ghcr.io/me"))["exit_code"] == 9


async def test_what_was_sent_is_not_sent_again(at: Way) -> None:
    """Whoever stops listening stops his push; the next one goes on from there."""
    image = at.hub.add_image("library/alpine", "3", layers=[4 * MIB])
    await at.pull("alpine:3")
    gate = Gate()
    at.ghcr.script_intake(is_large, Intake(2 * MIB, "hang", gate))
    pushing = begin(at.push("alpine:3", to="ghcr.io/me"))
    await until(lambda: at.ghcr.received(UPLOADS) >= 2 * MIB)
    pushing.cancel()
    gate.release()
    await asyncio.sleep(0.05)
    pushed = await at.pushed("alpine:3", to="ghcr.io/me")
    assert pushed["sent_bytes"] < 3 * MIB
    assert at.ghcr.received(UPLOADS) <= 4 * MIB + len(image.config[1])


async def test_what_is_removed_under_a_push_arrives_whole(at: Way, tmp_path: Path) -> None:
    """Breaks without leases on all of it: what waits for its turn would be deleted meanwhile."""
    image = at.hub.add_image("library/alpine", "3", layers=[2 * MIB, 2 * MIB + 1, 2 * MIB + 2, 1000, 1001])
    await at.pull("alpine:3")
    gate = Gate()
    at.ghcr.script_intake(is_large, Intake(MIB, "hang", gate), times=3)
    pushing = begin(at.push("alpine:3", to="ghcr.io/me"))
    await until(lambda: at.ghcr.count(is_large) >= 3)
    removed = await at.api.all("/remove", references=["alpine:3"], force=True)
    assert removed[-1]["ok"] == 1
    await at.api.all("/prune", all=True)
    assert len(stored(tmp_path / "data")) >= len(image.layers)
    gate.release()
    assert one(await pushing, "pushed")["digest"] == image.digest
    assert set(at.ghcr.repository("me/alpine").blobs) == {digest for digest, _ in [*image.layers, image.config]}
    await at.api.all("/prune", all=True)
    assert stored(tmp_path / "data") == {}


async def test_a_dry_run_sends_nothing(at: Way) -> None:
    image = at.hub.add_image("library/alpine", "3", layers=[1000, 2000])
    await at.pull("alpine:3")
    there, data = image.layers[0]
    at.ghcr.repository("me/alpine").blobs[there] = data
    events = await at.push("alpine:3", to="ghcr.io/me", dry_run=True)
    whole = 3000 + len(image.config[1])
    assert one(events, "plan") == {
        "event": "plan",
        "name": NAME,
        "target": "ghcr.io/me/alpine:3",
        "digest": image.digest,
        "send_layers": 1,
        "layers": 2,
        "send_bytes": whole - 1000,
        "bytes": whole,
        "fetch_bytes": 0,
    }
    assert {request.method for request in at.ghcr.seen()} == {"HEAD"}
    assert of(events, "layer") == []


async def test_what_waits_in_the_queue_is_left_alone(tmp_path: Path) -> None:
    async with way(tmp_path, ghcr={"push": "queue"}, access={"loopback": "all"}) as at:
        image = at.hub.add_image("library/alpine", "3")
        await at.pull("alpine:3")
        at.ghcr.script("POST /v2/me/app/*", status(503), times=None)
        for digest, data in [*image.layers, image.config]:
            assert await at.upload("ghcr.io/me/app", digest, data) == 201
        assert await at.put("ghcr.io/me/app", "1", image.manifest.raw, image.manifest.media_type) == 201
        before = execute(tmp_path / "data", "SELECT id, reference FROM outbox")
        assert len(before) == 1
        assert await at.pushed("alpine:3", to="ghcr.io/you")
        assert execute(tmp_path / "data", "SELECT id, reference FROM outbox") == before

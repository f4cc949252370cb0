"""`POST /api/v1/pull` against a scripted registry: what goes wrong."""

import asyncio
import json
from contextlib import aclosing
from pathlib import Path

from tests.faults.support import MIB, begin, hub, staged, stored, tmpfs, until
from tests.operations.pictures import layout_index
from tests.operations.streams import Row, Upstream, asking, of, one
from tests.server.test_users_on_the_wire import CI, PLAIN, RULES, STRANGER, scene
from tests.support.fake_registry import FakeRegistry, Gate
from tests.support.fake_registry.behaviours import close_after, hang_after, limited, status, wrong_bytes
from tests.support.mirror import mirror_in_process

NAME = "docker.io/library/alpine:3"
BLOBS = "GET */blobs/*"


async def test_one_bad_image_stops_nobody(upstream: Upstream) -> None:
    registry, _, api = upstream
    good = registry.add_image("library/good", "1")
    broken = registry.add_image("library/broken", "1", layers=[300_000], seed="broken")
    registry.script(f"GET */blobs/{broken.layers[0][0]}", wrong_bytes(), times=None)
    lost = registry.add_image("library/lost", "1", layers=[1000], seed="lost")
    del registry.content.repository("library/lost").blobs[lost.layers[0][0]]
    events = await api.pull("good:1", "broken:1", "lost:1", "none:1", "UPPER", "x@sha256:12", "nowhere.example/x:1")
    assert one(events, "pulled")["digest"] == good.digest
    codes = {event["name"]: event["exit_code"] for event in of(events, "error")}
    assert codes == {
        "docker.io/library/broken:1": 7,
        "docker.io/library/lost:1": 4,
        "docker.io/library/none:1": 4,
        "UPPER": 2,
        "x@sha256:12": 2,
        "nowhere.example/x:1": 4,
    }
    assert events[-1] == {"event": "end", "ok": 1, "failed": 6}


async def test_dockers_sentences(tmp_path: Path) -> None:
    registry = FakeRegistry()
    async with hub(tmp_path, registry=registry) as (_, mirror), asking(mirror) as api:
        registry.add_image("library/alpine", "1")
        missing = one(await api.pull("alpine:nope"), "error")
        assert (missing["exit_code"], missing["code"]) == (4, "MANIFEST_UNKNOWN")
        assert missing["message"] == "manifest for alpine:nope not found: docker.io does not have it"
        registry.script("*/manifests/*", status(401), times=None)
        denied = one(await api.pull("secret:1"), "error")
        assert (denied["exit_code"], denied["code"]) == (5, "DENIED")
        assert denied["message"] == (
            "pull access denied for secret, repository does not exist or may require 'mirror login docker.io'"
        )
        registry.unscript()
        registry.script("*/manifests/*", limited("60"), times=None)
        assert one(await api.pull("alpine:1"), "error")["exit_code"] == 6


async def test_no_answer_is_a_failure_and_what_is_held_stays(upstream: Upstream) -> None:
    registry, mirror, api = upstream
    image = registry.add_image("library/alpine", "3")
    await api.pull("alpine:3")
    registry.script("*", status(503), times=None)
    for more in ({}, {"dry_run": True}):
        events = await api.pull("alpine:3", **more)
        assert one(events, "error")["exit_code"] == 1
        assert image.digest in one(events, "note")["message"]
    assert (await mirror.get("/v2/library/alpine/manifests/3")).status == 200
    assert one(await api.pull("alpine:3", if_missing=True), "pulled")["status"] == "up_to_date"


async def test_offline_by_choice_what_is_whole_counts_as_pulled(upstream: Upstream, tmp_path: Path) -> None:
    registry, mirror, api = upstream
    registry.add_layout_image("library/alpine", "3", layout_index(tmp_path / "layout"))
    await api.pull("alpine:3", platforms=["linux/amd64"])
    mirror.app.policy.offline = True
    registry.forget()
    events = await api.pull("alpine:3", platforms=["linux/amd64"])
    assert one(events, "pulled")["status"] == "up_to_date"
    assert "offline" in one(events, "note")["message"]
    assert one(await api.pull("alpine:3", platforms=["linux/arm64"]), "error")["exit_code"] == 9
    assert one(await api.pull("other:1"), "error")["exit_code"] == 9
    assert registry.count() == 0


async def test_a_pull_that_is_broken_off_goes_on_from_there(upstream: Upstream, tmp_path: Path) -> None:
    registry, mirror, api = upstream
    image = registry.add_image("library/alpine", "3", layers=[4 * MIB])
    digest, data = image.layers[0]
    gate = Gate()
    registry.script(f"GET */blobs/{digest}", hang_after(3 * MIB, gate), times=1)
    async with aclosing(api.stream("/pull", references=["alpine:3"])) as events:
        async for event in events:
            if event.get("state") == "downloading" and event["digest"] == digest:
                break  # and the connection is closed: Ctrl-C
    await until(lambda: not pulls())
    assert staged(tmp_path / "data")
    again = begin(api.pull("alpine:3"))
    await until(pulls)
    gate.release()
    assert one(await again, "pulled")["bytes_fetched"] == len(data)  # the config is here since
    assert registry.sent(f"*/blobs/{digest}") <= 1.2 * len(data)
    await mirror.idle()


async def test_who_leaves_leaves_no_work_behind(upstream: Upstream) -> None:
    """Broken by a stream that goes on pulling the rest of the list for nobody."""
    registry, _, api = upstream
    gate = Gate()
    for number in range(4):
        registry.add_image(f"library/app{number}", "1", layers=[2000], seed=str(number))
    registry.script(BLOBS, hang_after(10, gate), times=None)
    async with aclosing(api.stream("/pull", references=[f"app{n}:1" for n in range(4)], jobs=1)) as events:
        await anext(events)
        await until(lambda: registry.count(BLOBS))
    await until(lambda: not pulls())
    registry.unscript()
    gate.release()
    assert not registry.count("* /v2/library/app3/*")


def pulls() -> list[str]:
    """Pulls under way."""
    return [task.get_name() for task in asyncio.all_tasks() if task.get_name() == "pull"]


async def test_a_full_disk_is_told(tmp_path: Path) -> None:
    """Broken by following a flight that only streams through: nothing would be here, and the pull would say it is."""
    with tmpfs(tmp_path / "small", 40 * MIB) as folder:
        async with hub(folder) as (registry, mirror), asking(mirror) as api:
            image = registry.add_image("library/alpine", "3", layers=[60 * MIB])
            registry.add_image("library/small", "1", layers=[1000], seed="small")
            events = await api.pull("alpine:3", "small:1")
            assert one(events, "pulled")["name"] == "docker.io/library/small:1"
            error = one(events, "error")
            assert (error["exit_code"], error["name"]) == (1, NAME)
            assert "full" in error["message"]
            assert image.layers[0][0].removeprefix("sha256:") not in stored(folder / "data")
            await mirror.idle()


async def test_a_dead_registry_breaks_mid_layer_and_resumes_unseen(upstream: Upstream) -> None:
    registry, _, api = upstream
    image = registry.add_image("library/alpine", "3", layers=[2 * MIB])
    registry.script(f"GET */blobs/{image.layers[0][0]}", close_after(MIB), times=2)
    assert one(await api.pull("alpine:3"), "pulled")["bytes_fetched"] >= 2 * MIB


async def test_what_a_killed_or_ended_mirror_had_is_gone_on_from(tmp_path: Path) -> None:
    """Broken by a pull that throws its staging away: what is staged survives the mirror's end, too."""
    registry = FakeRegistry()
    gate = Gate()
    async with registry:
        image = registry.add_image("library/alpine", "3", layers=[4 * MIB])
        digest, data = image.layers[0]
        registry.script(f"GET */blobs/{digest}", hang_after(3 * MIB, gate), times=1)
        section = {"docker.io": {"url": registry.url}}
        async with mirror_in_process(tmp_path / "data", section) as mirror, asking(mirror) as api:
            pulling = begin(api.pull("alpine:3"))
            await until(lambda: registry.sent(f"*/blobs/{digest}") >= 2 * MIB)
            await until(lambda: sum(size for size in staged_sizes(tmp_path / "data")) >= 2 * MIB)
            for task in asyncio.all_tasks():
                if task.get_name().startswith("flight"):
                    task.cancel()
            assert one(await pulling, "error")["exit_code"] == 1
        gate.release()
        async with mirror_in_process(tmp_path / "data", section) as mirror, asking(mirror) as api:
            sent = registry.sent(f"*/blobs/{digest}")
            pulled = one(await api.pull("alpine:3"), "pulled")
            assert pulled["status"] == "newer"
            assert pulled["bytes_fetched"] <= registry.sent(f"*/blobs/{digest}") - sent + 1000  # not what was staged
        assert registry.sent(f"*/blobs/{digest}") <= 1.3 * len(data)


async def test_an_image_that_went_while_it_came_is_no_success(upstream: Upstream) -> None:
    """Broken by saying "pulled" of what room was made from, or what was removed, while its last layer came."""
    registry, mirror, api = upstream
    image = registry.add_image("library/alpine", "3", layers=[2 * MIB])
    gate = Gate()
    registry.script(f"GET */blobs/{image.layers[0][0]}", hang_after(MIB, gate), times=1)
    pulling = begin(api.pull("alpine:3"))
    await until(lambda: registry.count(f"GET */blobs/{image.layers[0][0]}"))
    assert one(await api.all("/remove", references=["alpine:3"]), "untagged")["name"] == NAME
    gate.release()
    error = one(await pulling, "error")
    assert (error["exit_code"], "did not stay" in error["message"]) == (1, True)
    await mirror.idle()


def staged_sizes(data: Path) -> list[int]:
    return [entry.stat().st_size for entry in (data / "ingest").iterdir()]


async def test_an_index_whose_child_is_lost_is_not_called_unknown(upstream: Upstream, tmp_path: Path) -> None:
    registry, _, api = upstream
    index = layout_index(tmp_path / "layout", attestations=True)
    registry.add_layout_image("library/alpine", "3", index)
    del registry.content.repository("library/alpine").manifests[index.children[2].digest]
    error = one(await api.pull("alpine:3", platforms=["linux/amd64"]), "error")
    assert (error["exit_code"], index.children[2].digest in error["message"]) == (4, True)


# --- rights -----------------------------------------------------------------------------------------------


async def test_private_content_needs_a_rule(tmp_path: Path) -> None:
    """What a user may not see is not there, and nobody asks for it with the mirror's credentials for his sake."""
    async with scene(
        tmp_path, rules=[*RULES, {"users": ["plain"], "repositories": ["x/*"], "allow": ["push"]}]
    ) as here:
        body = json.dumps({"references": ["team/secret:1"], "dry_run": False}).encode()
        said: dict[str, list[list[Row]]] = {}
        for who in (PLAIN, CI, PLAIN):
            headers = {**STRANGER, "Authorization": who, "Content-Type": "application/json"}
            url = f"{here.mirror.url}/api/v1/pull"
            async with here.mirror.session.post(url, data=body, headers=headers) as answer:
                assert answer.status == 200
                said.setdefault(who, []).append([json.loads(line) for line in (await answer.read()).splitlines()])
        assert one(said[CI][0], "pulled")["digest"] == here.secret.digest
        for events in said[PLAIN]:  # before it was here, and after
            error = one(events, "error")
            assert (error["exit_code"], of(events, "layer")) == (5, [])
            assert here.secret.digest not in json.dumps(events)
        assert said[PLAIN][0] == said[PLAIN][1]

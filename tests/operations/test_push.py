"""`POST /api/v1/push` against scripted registries: where images go, what is told, and what crosses the wire."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mirror.errors import NameInvalid, RequestInvalid
from mirror.oci.names import LOCAL, Repository
from mirror.operations.push import Place
from tests.faults.support import MIB, begin, until
from tests.operations.pushing import UPLOADS, Way, way
from tests.operations.streams import of, one
from tests.support.fake_registry import Gate, Intake
from tests.support.fake_registry.behaviours import status

NAME = "docker.io/library/alpine:3"


@pytest.fixture
async def at(tmp_path: Path) -> AsyncIterator[Way]:
    async with way(tmp_path, own=["team/*"]) as made:
        yield made


# --- where it goes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("to", "source", "target"),
    [
        ("ghcr.io/me", Repository("docker.io", "library/alpine"), "ghcr.io/me/alpine"),
        ("ghcr.io/me/", Repository("docker.io", "org/app"), "ghcr.io/me/org/app"),
        ("GHCR.io:443/a/b", Repository("quay.io", "library/app"), "ghcr.io/a/b/library/app"),
        ("ghcr.io", Repository(LOCAL, "team/app"), "ghcr.io/team/app"),
        ("localhost:5000/x", Repository(LOCAL, "app"), "localhost:5000/x/app"),
        ("docker.io", Repository(LOCAL, "app"), "docker.io/library/app"),
        ("registry-1.docker.io/me", Repository("ghcr.io", "x/y"), "docker.io/me/x/y"),
    ],
)
def test_below_another_name(to: str, source: Repository, target: str) -> None:
    assert str(Place.parse(to).of(source)) == target


@pytest.mark.parametrize("text", ["me", "me/x", "/", "local/x", "", "/ghcr.io"])
def test_a_place_begins_with_a_registry(text: str) -> None:
    with pytest.raises(RequestInvalid, match="does not begin with a registry"):
        Place.parse(text)


@pytest.mark.parametrize("text", ["ghcr.io:port/x", "-.io/x"])
def test_a_registry_is_a_host(text: str) -> None:
    with pytest.raises(NameInvalid):
        Place.parse(text)


def test_a_prefix_is_a_path() -> None:
    with pytest.raises(NameInvalid):
        Place.parse("ghcr.io/UPPER").of(Repository(LOCAL, "app"))


# --- one image --------------------------------------------------------------------------------------------


async def test_an_image_goes_to_another_registry(at: Way) -> None:
    image = at.hub.add_image("library/alpine", "3", layers=[1000, 3 * MIB])
    await at.pull("alpine:3")
    at.hub.forget()
    events = await at.push("alpine:3", to="ghcr.io/me")
    whole = sum(len(data) for _, data in [*image.layers, image.config])
    assert events[0] == {"event": "image", "name": NAME, "target": "ghcr.io/me/alpine:3"}
    assert one(events, "pushed") == {
        "event": "pushed",
        "name": NAME,
        "target": "ghcr.io/me/alpine:3",
        "digest": image.digest,
        "size": len(image.manifest.raw),
        "sent_layers": 2,
        "layers": 2,
        "sent_bytes": whole,
        "bytes": whole,
        "mounted": 0,
        "existing": 0,
    }
    assert events[-1] == {"event": "end", "ok": 1, "failed": 0}
    there = at.ghcr.repository("me/alpine")
    assert there.tags == {"3": image.digest}
    assert there.manifests[image.digest].raw == image.manifest.raw
    assert there.blobs == dict([*image.layers, image.config])
    assert at.ghcr.received(UPLOADS) == whole
    assert at.hub.count() == 0  # what is held is not asked for


async def test_layers_tell_how_far_they_are(at: Way) -> None:
    image = at.hub.add_image("library/alpine", "3", layers=[1000, 3 * MIB])
    await at.pull("alpine:3")
    small, large = image.layers
    at.ghcr.repository("me/alpine").blobs[small[0]] = small[1]
    at.ghcr.script_intake("PATCH *", Intake(pace=20 * MIB), times=None)
    layers = of(await at.push("alpine:3", to="ghcr.io/me"), "layer")
    assert {event["digest"] for event in layers} == {small[0], large[0]}  # docker shows layers
    by_digest = {
        digest: [event["state"] for event in layers if event["digest"] == digest] for digest in (small[0], large[0])
    }
    assert by_digest[small[0]] == ["preparing", "exists"]
    assert (by_digest[large[0]][0], by_digest[large[0]][-1]) == ("preparing", "pushed")
    assert set(by_digest[large[0]][1:-1]) == {"pushing"}
    assert all(0 <= event["done"] <= event["size"] for event in layers)
    assert layers[-1]["done"] == layers[-1]["size"] == len(large[1])


async def test_only_what_is_missing_is_sent(at: Way) -> None:
    base = [50_000] * 8
    first = at.hub.add_image("library/app", "1", layers=[*base, b"one"])
    second = at.hub.add_image("library/app", "2", layers=[*base, b"another one"])
    await at.pull("app:1", "app:2")
    assert (await at.pushed("app:1", to="ghcr.io/me"))["sent_layers"] == 9
    at.ghcr.forget()
    pushed = await at.pushed("app:2", to="ghcr.io/me")
    assert (pushed["sent_layers"], pushed["layers"], pushed["existing"]) == (1, 9, 8)
    assert pushed["sent_bytes"] == at.ghcr.received(UPLOADS) == len(b"another one") + len(second.config[1])
    at.ghcr.forget()
    again = await at.pushed("app:2", to="ghcr.io/me")
    assert (again["sent_layers"], again["sent_bytes"], again["existing"]) == (0, 0, 9)
    assert at.ghcr.count("POST *") == at.ghcr.count("PATCH *") == 0
    assert at.ghcr.repository("me/app").tags == {"1": first.digest, "2": second.digest}


async def test_the_same_layers_in_another_repository_are_mounted(at: Way) -> None:
    at.hub.add_image("library/alpine", "3")
    await at.pull("alpine:3")
    await at.push("alpine:3", to="ghcr.io/me")
    at.ghcr.forget()
    events = await at.push("alpine:3", to="ghcr.io/you")
    pushed = one(events, "pushed")
    assert (pushed["mounted"], pushed["sent_layers"], pushed["sent_bytes"]) == (3, 0, 0)
    mounted = [event for event in of(events, "layer") if event["state"] == "mounted"]
    assert {event["mounted_from"] for event in mounted} == {"ghcr.io/me/alpine"}
    assert at.ghcr.received(UPLOADS) == 0


async def test_to_its_own_registry_under_its_own_name(tmp_path: Path) -> None:
    """Whatever `push` says of pushes to the mirror. And a tag set here is that registry's from then on."""
    async with way(tmp_path) as at:
        image = at.ghcr.add_image("me/app", "1")
        await at.pull("ghcr.io/me/app:1")
        await at.tag("ghcr.io/me/app:1", "ghcr.io/me/app:2")
        at.ghcr.forget()
        pushed = await at.pushed("ghcr.io/me/app:2")
        assert (pushed["target"], pushed["sent_layers"], pushed["existing"]) == ("ghcr.io/me/app:2", 0, 3)
        assert at.ghcr.repository("me/app").tags == {"1": image.digest, "2": image.digest}
        newer = at.ghcr.add_image("me/app", "2", seed="newer")
        reply = await at.mirror.get("/v2/ghcr.io/me/app/manifests/2")
        assert reply.headers["Docker-Content-Digest"] == image.digest  # fresh as if just asked for
        at.mirror.clock.shift += 100
        at.mirror.clock.wall_shift += 100
        reply = await at.mirror.get("/v2/ghcr.io/me/app/manifests/2")
        assert reply.headers["Docker-Content-Digest"] == newer.digest


async def test_an_own_image(at: Way) -> None:
    image = at.hub.add_image("library/alpine", "3")
    await at.pull("alpine:3")
    await at.tag("alpine:3", "team/base:1")
    error = await at.failed("team/base:1")
    assert (error["name"], error["exit_code"]) == ("local/team/base:1", 2)
    assert "--to ghcr.io/me" in error["message"]
    pushed = await at.pushed("team/base:1", to="ghcr.io/me")
    assert (pushed["name"], pushed["target"]) == ("local/team/base:1", "ghcr.io/me/team/base:1")
    assert at.ghcr.repository("me/team/base").tags == {"1": image.digest}


async def test_by_digest(at: Way) -> None:
    """With a tag beside it the digest decides what goes, and the tag under which name."""
    image = at.hub.add_image("library/alpine", "3")
    await at.pull("alpine:3")
    at.hub.add_image("library/alpine", "3", seed="newer")
    await at.pull("alpine:3")
    pushed = await at.pushed(f"alpine@{image.digest}", to="ghcr.io/me")
    assert (pushed["target"], pushed["digest"]) == (f"ghcr.io/me/alpine@{image.digest}", image.digest)
    assert at.ghcr.repository("me/alpine").tags == {}
    assert (await at.pushed(f"alpine:x@{image.digest}", to="ghcr.io/me"))["target"] == "ghcr.io/me/alpine:x"
    assert at.ghcr.repository("me/alpine").tags == {"x": image.digest}


async def test_what_is_held_goes_and_nobody_is_asked(at: Way) -> None:
    """A push is of what is here, also where its registry has moved the tag since, or is down."""
    image = at.hub.add_image("library/alpine", "3")
    await at.pull("alpine:3")
    at.hub.add_image("library/alpine", "3", seed="newer")
    at.hub.script("*", status(503), times=None)
    assert (await at.pushed("alpine:3", to="ghcr.io/me"))["digest"] == image.digest


@pytest.mark.parametrize(
    ("text", "code", "says"),
    [
        ("alpine:4", 4, "An image does not exist locally with the tag: alpine:4"),
        ("none", 4, "An image does not exist locally with the tag: none:latest"),
        ("{short}", 4, "An image does not exist locally with the tag: {short}:latest"),
        ("{id}", 2, "invalid repository name ({id}), cannot specify 64-byte hexadecimal strings"),
        ("sha256:{id}", 2, "invalid repository name (sha256:{id}), cannot specify 64-byte hexadecimal strings"),
        ("Alpine", 2, "invalid repository name"),
        ("alpine@sha256:1", 2, "invalid reference format"),
    ],
)
async def test_names_not_ids(at: Way, text: str, code: int, says: str) -> None:
    image = at.hub.add_image("library/alpine", "3")
    await at.pull("alpine:3")
    words = {"id": image.config[0].removeprefix("sha256:"), "short": image.config[0][7:19]}
    error = await at.failed(text.format(**words), to="ghcr.io/me")
    assert error["exit_code"] == code
    assert error["message"].startswith(says.format(**words))


# --- many -------------------------------------------------------------------------------------------------


async def test_all_tags_that_are_held(at: Way) -> None:
    for tag in ("1", "2", "3"):
        at.hub.add_image("library/app", tag, seed=tag)
    await at.pull("app:1", "app:3")
    events = await at.push("app", to="ghcr.io/me", all_tags=True)
    assert {event["target"] for event in of(events, "pushed")} == {"ghcr.io/me/app:1", "ghcr.io/me/app:3"}
    assert set(at.ghcr.repository("me/app").tags) == {"1", "3"}
    assert (await at.failed("app:1", to="ghcr.io/me", all_tags=True))["message"] == (
        "tag can't be used with --all-tags/-a"
    )
    failure = await at.failed("none", to="ghcr.io/me", all_tags=True)
    assert (failure["exit_code"], failure["message"]) == (4, "An image does not exist locally with the tag: none")


async def test_one_that_fails_does_not_stop_the_others(at: Way) -> None:
    at.hub.add_image("library/a", "1")
    at.hub.add_image("library/c", "1", seed="c")
    await at.pull("a:1", "c:1")
    events = await at.push("a:1", "b:1", "c:1", to="ghcr.io/me")
    assert {event["name"] for event in of(events, "pushed")} == {"docker.io/library/a:1", "docker.io/library/c:1"}
    assert one(events, "error")["name"] == "docker.io/library/b:1"
    assert events[-1] == {"event": "end", "ok": 2, "failed": 1}


async def test_a_name_twice_is_one_image_and_two_to_one_place_are_refused(at: Way) -> None:
    at.hub.add_image("team/base", "1")
    at.hub.add_image("library/alpine", "3", seed="other")
    await at.pull("docker.io/team/base:1", "alpine:3")
    await at.tag("alpine:3", "team/base:1")
    events = await at.push("alpine:3", "docker.io/library/alpine:3", to="ghcr.io/me")
    assert len(of(events, "image")) == len(of(events, "pushed")) == events[-1]["ok"] == 1
    events = await at.push("docker.io/team/base:1", "team/base:1", to="ghcr.io/me", jobs=1)
    assert one(events, "pushed")["name"] == "docker.io/team/base:1"
    assert one(events, "error")["message"] == ("team/base:1 would go where team/base:1 goes: push one of them apart")


async def test_at_most_so_many_images_at_a_time_and_layers_they_share_once(at: Way) -> None:
    shared = 300_000
    for number in range(5):
        at.hub.add_image(f"library/app{number}", "1", layers=[b"%d" % number, shared])
    names = [f"app{number}:1" for number in range(5)]
    await at.pull(*names)
    gate = Gate()
    at.ghcr.script_intake("PATCH *", Intake(1, "hang", gate), times=None)
    pushing = begin(at.push(*names, to="ghcr.io/me", jobs=2))
    await until(lambda: at.ghcr.count("PATCH *") >= 2)
    await asyncio.sleep(0.05)
    assert len({request.path.split("/")[3] for request in at.ghcr.seen("HEAD *")}) == 2
    at.ghcr.unscript()
    gate.release()
    events = await pushing
    assert events[-1] == {"event": "end", "ok": 5, "failed": 0}

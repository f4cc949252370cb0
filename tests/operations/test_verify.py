"""`POST /api/v1/verify`: what is bad is found, served no more, healed or named."""

import asyncio
import errno
import os
from contextlib import aclosing
from pathlib import Path

import pytest

from tests.faults.support import MIB, later, stored, until
from tests.operations.streams import Row, Upstream, execute, file_of, of, one
from tests.support.fake_registry.behaviours import status

NAME = "docker.io/library/alpine:3"


def rot(path: Path) -> None:
    """One bit of the middle is another one; the size stays."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o600)
    with path.open("r+b") as file:
        file.write(data)


def end(events: list[Row]) -> tuple[int, int]:
    assert events[-1]["event"] == "end"
    return events[-1]["ok"], events[-1]["failed"]


async def test_all_is_well(upstream: Upstream, tmp_path: Path) -> None:
    registry, _, api = upstream
    image = registry.add_image("library/alpine", "3", layers=[1000, 3 * MIB])
    await api.pull("alpine:3")
    before = execute(tmp_path / "data", "SELECT min(verified_at) FROM blobs")[0][0]
    events = await api.verify()
    assert end(events) == (4, 0)
    assert not of(events, "bad")
    size = sum(stored(tmp_path / "data").values())
    assert of(events, "progress")[-1] == {"event": "progress", "done": 4, "total": 4, "bytes": size}
    assert size == sum(len(data) for _, data in [*image.layers, image.config]) + len(image.manifest.raw)
    assert execute(tmp_path / "data", "SELECT min(verified_at) FROM blobs")[0][0] > before


@pytest.mark.parametrize("what", ["layer", "config", "manifest"])
@pytest.mark.parametrize("damage", ["rotten", "cut", "missing"])
async def test_damage_is_found_and_healed(upstream: Upstream, tmp_path: Path, what: str, damage: str) -> None:
    """Broken by trusting sizes (rotten), or by trusting what memory still has (a manifest)."""
    registry, mirror, api = upstream
    image = registry.add_image("library/alpine", "3", layers=[1000, 300_000])
    await api.pull("alpine:3")
    digest = {"layer": image.layers[1][0], "config": image.config[0], "manifest": image.digest}[what]
    path = file_of(tmp_path, digest)
    whole = path.read_bytes()
    match damage:
        case "rotten":
            rot(path)
        case "cut":
            os.truncate(path, len(whole) - 1)
        case _:
            path.unlink()
    found = await api.verify()
    assert one(found, "bad") | {"reason": ""} == {
        "event": "bad",
        "digest": digest,
        "names": [NAME],
        "state": "quarantined",
        "reason": "",
    }
    assert one(found, "bad")["reason"]
    assert end(found) == (3, 0)
    registry.forget()
    again = await api.verify()  # it stays bad until it is healed
    assert one(again, "bad")["state"] == "quarantined"
    assert registry.count() == 0
    healed = await api.verify(repair=True)
    assert one(healed, "bad")["state"] == "healed"
    assert path.read_bytes() == whole
    assert not of(await api.verify(), "bad")
    registry.forget()
    kind = "manifests" if what == "manifest" else "blobs"
    assert (await mirror.get(f"/v2/library/alpine/{kind}/{digest}")).body == whole
    assert registry.count() == 0


async def test_what_is_bad_is_never_served_again(upstream: Upstream, tmp_path: Path) -> None:
    registry, mirror, api = upstream
    image = registry.add_image("library/alpine", "3", layers=[300_000])
    digest, data = image.layers[0]
    await api.pull("alpine:3")
    rot(file_of(tmp_path, digest))
    assert one(await api.verify(), "bad")["state"] == "quarantined"
    registry.forget()
    assert (await mirror.get(f"/v2/library/alpine/blobs/{digest}")).body == data
    assert registry.count(f"GET */blobs/{digest}") == 1
    await mirror.idle()
    assert not of(await api.verify(), "bad")


async def test_what_no_registry_has_is_lost_and_its_images_are_named(upstream: Upstream, tmp_path: Path) -> None:
    registry, _, api = upstream
    image = registry.add_image("library/alpine", "3", layers=[300_000, 1000])
    registry.add_image("library/alpine", "4", layers=[300_000, 2000])  # shares the first layer
    registry.add_image("library/other", "1", layers=[500], seed="other")
    await api.pull("alpine:3", "alpine:4", "other:1")
    digest = image.layers[0][0]
    del registry.content.repository("library/alpine").blobs[digest]
    rot(file_of(tmp_path, digest))
    bad = one(await api.verify(repair=True), "bad")
    assert (bad["state"], bad["digest"]) == ("lost", digest)
    assert bad["names"] == [NAME, "docker.io/library/alpine:4"]
    assert "not known" in bad["reason"]
    assert one(await api.verify(repair=True), "bad")["state"] == "lost"


async def test_an_outage_loses_nothing_for_good(upstream: Upstream, tmp_path: Path) -> None:
    registry, mirror, api = upstream
    image = registry.add_image("library/alpine", "3", layers=[300_000])
    await api.pull("alpine:3")
    rot(file_of(tmp_path, image.layers[0][0]))
    registry.script("*", status(503), times=None)
    assert one(await api.verify(repair=True), "bad")["state"] == "lost"
    registry.unscript()
    later(mirror, 60)
    await mirror.app.upstreams.probe()
    assert one(await api.verify(repair=True), "bad")["state"] == "healed"


async def test_only_what_some_images_are_made_of(upstream: Upstream, tmp_path: Path) -> None:
    registry, _, api = upstream
    one_image = registry.add_image("library/alpine", "3", layers=[1000])
    other = registry.add_image("library/other", "1", layers=[5000], seed="other")
    await api.pull("alpine:3", "other:1")
    rot(file_of(tmp_path, other.layers[0][0]))
    events = await api.verify("alpine:3", "nothing:1")
    assert not of(events, "bad")
    assert (one(events, "error")["name"], one(events, "error")["exit_code"]) == ("nothing:1", 4)
    assert end(events) == (3, 1)
    by_id = await api.verify(one_image.config[0][7:19], other.digest)
    assert one(by_id, "bad")["digest"] == other.layers[0][0]
    assert one(await api.verify("other:1"), "bad")["state"] == "quarantined"  # also what was found earlier
    assert not of(await api.verify("alpine:3"), "bad")
    assert one(await api.verify("other:1", repair=True), "bad")["state"] == "healed"


async def test_a_read_error_is_damage(upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Broken by ending the whole verification, or by going on serving what cannot be read."""
    registry, mirror, api = upstream
    image = registry.add_image("library/alpine", "3", layers=[300_000])
    await api.pull("alpine:3")
    inode = file_of(tmp_path, image.layers[0][0]).stat().st_ino
    real = os.pread

    def broken(descriptor: int, count: int, offset: int) -> bytes:
        if os.fstat(descriptor).st_ino == inode:
            raise OSError(errno.EIO, "Input/output error")
        return real(descriptor, count, offset)

    monkeypatch.setattr(os, "pread", broken)
    events = await api.verify()
    monkeypatch.undo()
    assert one(events, "bad")["state"] == "quarantined"
    assert "Input/output error" in one(events, "bad")["reason"]
    assert end(events) == (2, 0)
    registry.forget()
    healed = one(await api.verify(repair=True), "bad")  # it can be read again: nothing is fetched
    assert (healed["state"], registry.count(f"GET */blobs/{image.layers[0][0]}")) == ("healed", 0)
    rot(file_of(tmp_path, image.layers[0][0]))
    await api.verify()
    again = await api.verify(repair=True)
    assert end(again) == (2, 0)  # what is healed is not looked at, or counted, a second time
    assert [event["done"] for event in of(again, "progress")][-1] == of(again, "progress")[-1]["total"] == 3
    assert (await mirror.get(f"/v2/library/alpine/blobs/{image.layers[0][0]}")).status == 200


async def test_another_error_is_told_and_is_no_damage(
    upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Broken by taking "no more descriptors" for rot: a busy mirror would quarantine all that it has."""
    registry, _, api = upstream
    registry.add_image("library/alpine", "3", layers=[300_000])
    await api.pull("alpine:3")

    def broken(*_: int) -> bytes:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.setattr(os, "pread", broken)
    events = await api.verify()
    monkeypatch.undo()
    assert (end(events), of(events, "bad")) == ((0, 3), [])
    assert end(await api.verify()) == (3, 0)


async def test_the_catalog_is_held_against_the_bytes(upstream: Upstream, tmp_path: Path) -> None:
    registry, _, api = upstream
    image = registry.add_image("library/alpine", "3")
    await api.pull("alpine:3")
    execute(tmp_path / "data", "UPDATE edges SET size = size + 1 WHERE position = 1")
    events = await api.verify()
    error = one(events, "error")
    assert (error["name"], end(events)) == (image.digest, (4, 1))
    assert "the catalog says otherwise" in error["message"]


async def test_files_that_the_catalog_does_not_know(upstream: Upstream, tmp_path: Path) -> None:
    """What a crash between rename and commit leaves: told, and with repair removed."""
    registry, _, api = upstream
    registry.add_image("library/alpine", "3")
    await api.pull("alpine:3")
    stray = file_of(tmp_path, "sha256:" + "e" * 64)
    stray.write_bytes(b"y" * 500)
    assert one(await api.verify(), "unknown") == {"event": "unknown", "files": 1, "bytes": 500, "removed": False}
    assert stray.exists()
    assert not of(await api.verify("alpine:3"), "unknown")  # that was not asked for
    events = await api.verify(repair=True)
    assert one(events, "unknown") == {"event": "unknown", "files": 1, "bytes": 500, "removed": True}
    assert not stray.exists()
    events = await api.verify()
    assert (of(events, "unknown"), of(events, "bad"), end(events)) == ([], [], (5, 0))


async def test_one_that_leaves_ends_it(upstream: Upstream, tmp_path: Path) -> None:
    registry, _, api = upstream
    registry.add_image("library/alpine", "3", layers=[64 * MIB])
    await api.pull("alpine:3")
    async with aclosing(api.stream("/verify", references=[])) as events:
        await anext(events)
    await until(lambda: not any(task.get_name() == "verify" for task in asyncio.all_tasks()))
    assert end(await api.verify()) == (3, 0)

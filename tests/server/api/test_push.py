"""`POST /api/v1/push`: what is read, who may."""

from pathlib import Path
from typing import Any

import pytest

from mirror.operations.push import Wanted
from mirror.server.api import push
from mirror.server.api.endpoint import Asked
from tests.operations.streams import asking
from tests.support.fake_registry import FakeRegistry
from tests.support.mirror import mirror_in_process


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"references": []},
        {"references": "alpine"},
        {"references": ["x"], "jobs": 0},
        {"references": ["x"], "jobs": 65},
        {"references": ["x"], "platform": "a/b/c/d"},
        {"references": ["x"], "platform": ["linux/amd64"]},
        {"references": ["x"], "to": ""},
        {"references": ["x"], "to": "me/app"},
        {"references": ["x"], "to": "x" * 1001},
        {"references": ["x"], "colour": "red"},
        {"references": ["x"] * 10_001},
        [],
    ],
    ids=lambda body: str(body)[:60],
)
async def test_what_cannot_be_meant(tmp_path: Path, body: Any) -> None:
    async with FakeRegistry() as hub, mirror_in_process(tmp_path / "d", {"docker.io": hub.url}) as mirror:
        async with asking(mirror) as api:
            (refused,) = [event async for event in api.raw("/push", body)]
        assert (refused["status"], hub.count()) == (400, 0)
        assert refused["errors"][0]["detail"]["exit_code"] == 2


@pytest.mark.parametrize(("loopback", "status"), [("pull", 403), ("push", 403), ("all", 200)])
async def test_who_may(tmp_path: Path, loopback: str, status: int) -> None:
    """The socket; this machine as far as `[access] loopback` says; nobody else."""
    access = {"loopback": loopback}
    async with (
        FakeRegistry() as hub,
        mirror_in_process(tmp_path / "d", {"docker.io": hub.url}, access=access) as mirror,
    ):
        url, body = f"{mirror.url}/api/v1/push", {"references": ["alpine:3"]}
        async with mirror.session.post(url, json=body) as answer:
            assert answer.status == status
            if status == 200:
                assert answer.headers["Content-Type"] == "application/x-ndjson"
                assert b"An image does not exist locally" in await answer.read()
        async with mirror.session.post(url, json=body, headers={"Host": "mirror.example"}) as answer:
            assert answer.status in (401, 403)
        async with asking(mirror) as api:
            assert (await api.all("/push", references=["alpine:3"]))[-1] == {"event": "end", "ok": 0, "failed": 1}


def test_the_body_becomes_what_is_wanted() -> None:
    wanted: list[Any] = []

    class Push:
        def push(self, principal: object, asked: Wanted) -> object:
            wanted.append((principal, asked))
            return None

    (endpoint,) = push.endpoints(Push())  # type: ignore[arg-type]
    body = push.PushBody(("a",), "ghcr.io/me", "linux/arm64", all_tags=True, dry_run=True, jobs=7)
    endpoint.answer(Asked("who", "client", None, body))  # type: ignore[arg-type]
    assert wanted == [("who", Wanted(("a",), "ghcr.io/me", "linux/arm64", True, True, 7))]

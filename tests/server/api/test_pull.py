"""`POST /api/v1/pull`: what is read, who may."""

import json
from pathlib import Path
from typing import Any

import pytest

from mirror.operations.pull import Wanted
from mirror.server.api import pull
from mirror.server.api.endpoint import Asked
from tests.operations.streams import asking, one
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
        {"references": ["x"], "platforms": "all"},
        {"references": ["x"], "platforms": ["a/b/c/d"]},
        {"references": ["x"], "colour": "red"},
        {"references": ["x"] * 10_001},
        [],
    ],
    ids=str,
)
async def test_what_cannot_be_meant(tmp_path: Path, body: Any) -> None:
    async with FakeRegistry() as hub, mirror_in_process(tmp_path / "d", {"docker.io": hub.url}) as mirror:
        async with asking(mirror) as api:
            (refused,) = [event async for event in api.raw("/pull", body)]
        assert (refused["status"], hub.count()) == (400, 0)
        assert refused["errors"][0]["detail"]["exit_code"] == 2


async def test_who_may(tmp_path: Path) -> None:
    """The socket; this machine as far as `[access] loopback` says; nobody else."""
    for loopback, status in (("pull", 403), ("all", 200)):
        async with (
            FakeRegistry() as hub,
            mirror_in_process(tmp_path / loopback, {"docker.io": hub.url}, access={"loopback": loopback}) as mirror,
        ):
            hub.add_image("library/alpine", "3")
            url, body = f"{mirror.url}/api/v1/pull", {"references": ["alpine:3"]}
            async with mirror.session.post(url, json=body) as answer:
                assert answer.status == status
                said = await answer.read()
            if status == 200:
                assert json.loads(said.splitlines()[-1]) == {"event": "end", "ok": 1, "failed": 0}
                assert answer.headers["Content-Type"] == "application/x-ndjson"
            async with mirror.session.post(url, json=body, headers={"Host": "mirror.example"}) as answer:
                assert answer.status in (401, 403)
            async with asking(mirror) as api:
                assert one(await api.pull("alpine:3"), "pulled")


def test_the_body_becomes_what_is_wanted() -> None:
    wanted: list[Any] = []

    class Pull:
        def pull(self, principal: object, asked: Wanted) -> object:
            wanted.append((principal, asked))
            return None

    (endpoint,) = pull.endpoints(Pull())  # type: ignore[arg-type]
    body = pull.PullBody(("a",), ("all",), all_tags=True, if_missing=True, pin=True, dry_run=True, jobs=7)
    endpoint.answer(Asked("who", "client", None, body))  # type: ignore[arg-type]
    assert wanted == [("who", Wanted(("a",), ("all",), True, True, True, True, 7))]

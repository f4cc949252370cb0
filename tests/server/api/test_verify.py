"""`POST /api/v1/verify`: what is read, who may."""

from pathlib import Path
from typing import Any

import pytest

from tests.operations.streams import asking, of
from tests.support.fake_registry import FakeRegistry
from tests.support.mirror import mirror_in_process


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 200),
        ({"repair": True}, 200),
        ({"references": ["x"]}, 200),
        ({"repair": "perhaps"}, 400),
        ({"references": "x"}, 400),
        ({"more": 1}, 400),
        (None, 400),
    ],
    ids=str,
)
async def test_bodies(tmp_path: Path, body: Any, status: int) -> None:
    async with (
        FakeRegistry() as hub,
        mirror_in_process(tmp_path / "d", {"docker.io": hub.url}) as mirror,
        asking(mirror) as api,
    ):
        events = [event async for event in api.raw("/verify", body)]
    if status == 200:
        assert of(events, "end")
    else:
        assert events[0]["status"] == status


async def test_who_may(tmp_path: Path) -> None:
    for loopback, status in (("push", 403), ("all", 200)):
        async with (
            FakeRegistry() as hub,
            mirror_in_process(tmp_path / loopback, {"docker.io": hub.url}, access={"loopback": loopback}) as mirror,
            mirror.session.post(f"{mirror.url}/api/v1/verify", json={}) as answer,
        ):
            assert answer.status == status

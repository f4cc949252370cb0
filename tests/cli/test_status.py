import json
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from mirror.cli import main, status, transport

NOW = 1_000_000.0
STATUS: dict[str, Any] = {
    "version": "0.1.0",
    "instance": "abc",
    "uptime_seconds": 3 * 86400,
    "offline": False,
    "listen": ["127.0.0.1:5000", "10.0.0.5:5000"],
    "data": {
        "path": "/var/lib/mirror",
        "free_bytes": 210_000_000_000,
        "blobs": 5213,
        "bytes": 61_200_000_000,
        "repositories": 33,
        "tags": 120,
        "only_here": 1,
    },
    "traffic": {
        "requests": 1204,
        "hits": 930,
        "misses": 70,
        "hit_ratio": 0.93,
        "served_bytes": 41_200_000_000,
        "fetched_bytes": 3_100_000_000,
        "saved_bytes": 38_100_000_000,
    },
    "registries": [
        {
            "name": "docker.io",
            "url": "https://registry-1.docker.io",
            "state": "ok",
            "since": None,
            "reason": None,
            "serving": "everything",
            "retry_at": None,
            "pulls_left": 87,
            "pulls_limit": 100,
            "credentials": False,
        },
        {
            "name": "ghcr.io",
            "url": "https://ghcr.io",
            "state": "down",
            "since": NOW - 720,
            "reason": "ghcr.io: connection refused",
            "serving": "what is held",
            "retry_at": NOW + 24,
            "pulls_left": None,
            "pulls_limit": None,
            "credentials": True,
        },
    ],
    "only_here": [{"name": "docker.io/library/x:1", "gone_at": NOW - 3 * 86400}],
}
SHOWN = """\
mirror       0.1.0, up 3 days
listens on   127.0.0.1:5000, 10.0.0.5:5000
requests     1,204, hit ratio 93 %
bytes        served 41.2GB, fetched 3.1GB, saved 38.1GB
data         /var/lib/mirror, 61.2GB in 5,213 blobs, 210GB free
images       120 tags in 33 repositories, 1 only here

REGISTRY    STATE     SINCE            PULLS LEFT   REMARK
docker.io   ok        -                87 of 100
ghcr.io     down      12 minutes ago   -            connection refused; asked again in 24 seconds

Served meanwhile of ghcr.io: what is held

ONLY HERE               GONE UPSTREAM
docker.io/library/x:1   3 days ago"""


def test_the_table() -> None:
    assert status.render(STATUS, now=NOW) == SHOWN


def changed(**values: object) -> str:
    return status.render({**STATUS, **values}, now=NOW)


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"offline": True}, "mirror       0.1.0, up 3 days, offline: no registry is asked"),
        ({"listen": []}, "listens on   nothing"),
        ({"traffic": {**STATUS["traffic"], "requests": 0, "hit_ratio": None}}, "requests     0, no hit or miss yet"),
        ({"traffic": {**STATUS["traffic"], "hit_ratio": 0.0}}, "requests     1,204, hit ratio 0 %"),
        ({"traffic": {**STATUS["traffic"], "hit_ratio": 0.001}}, "requests     1,204, hit ratio < 1 %"),
        ({"traffic": {**STATUS["traffic"], "hit_ratio": 0.9999}}, "requests     1,204, hit ratio 99 %"),
        ({"traffic": {**STATUS["traffic"], "hit_ratio": 1.0}}, "requests     1,204, hit ratio 100 %"),
        (
            {"data": {**STATUS["data"], "tags": 1, "repositories": 1, "only_here": 0}},
            "images       1 tag in 1 repository",
        ),
        (
            {"queue": {"waiting": 3, "refused": 1, "since": NOW - 7200}},
            "queue        3 pushes wait, the first one since 2 hours, 1 refused: mirror queue",
        ),
        ({"queue": {"waiting": 1, "refused": 0, "since": None}}, "queue        1 push waits: mirror queue"),
        (
            {"sent": [{"registry": "ghcr.io", "bytes": 41_200_000, "blobs": 3}]},
            "sent         41.2MB in 3 blobs to ghcr.io",
        ),
        (
            {"sent": [{"registry": f"{n}.io", "bytes": 0, "blobs": 1} for n in range(5)]},
            "sent         0B in 1 blob to 0.io, 0B in 1 blob to 1.io, 0B in 1 blob to 2.io and 2 more",
        ),
        ({"data": {**STATUS["data"], "path": None}}, "data         61.2GB in 5,213 blobs, 210GB free"),
    ],
)
def test_what_the_lines_say(values: dict[str, object], line: str) -> None:
    assert line in changed(**values).splitlines()


def test_what_is_missing_is_left_out() -> None:
    assert status.render({"version": "9"}, now=NOW) == "mirror       9, up\nlistens on   nothing"
    assert "ONLY HERE" not in changed(only_here=[])
    assert "REGISTRY" not in changed(registries=[])
    assert "queue" not in changed(queue={"waiting": 0, "refused": 0, "since": None})
    assert "sent" not in changed(sent=[])


def down(name: str, serving: str) -> dict[str, Any]:
    return {**STATUS["registries"][1], "name": name, "serving": serving}


def test_what_is_served_meanwhile_is_said_once() -> None:
    registries = [
        STATUS["registries"][0],
        *(down(f"{n}.io", "what is held") for n in range(5)),
        down("x.io", "nothing"),
    ]
    lines = [line for line in changed(registries=registries).splitlines() if line.startswith("Served")]
    assert lines == [
        "Served meanwhile of 0.io, 1.io, 2.io and 2 more: what is held",
        "Served meanwhile of x.io: nothing",
    ]


def test_foreign_text_is_escaped() -> None:
    shown = changed(version="\x1b[2J", registries=[{"name": "x", "state": "down", "reason": "a\u202e\nb"}])
    assert "\x1b" not in shown
    assert "a\\u202e\\x0ab" in shown


KEYS = sorted({*STATUS, "queue", "sent", "waiting", "refused", "since", "bytes"})
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=5),
    max_leaves=20,
)


@given(st.dictionaries(st.sampled_from(KEYS), JSON))
def test_whatever_answers_something_is_shown(answer: dict[str, Any]) -> None:
    assert status.render(answer, now=NOW).startswith("mirror")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str | None]]:
    """What the verb asks for; the answer is `STATUS`."""
    calls: list[tuple[str, str | None]] = []

    def get_json(path: str, *, server: str | None) -> Any:
        calls.append((path, server))
        return STATUS

    monkeypatch.setattr(transport, "get_json", get_json)
    return calls


def test_the_verb_asks_the_server_and_prints_a_table(asked: list[tuple[str, str | None]]) -> None:
    done = CliRunner().invoke(main, ["status", "--server", "http://x:5000"])
    assert asked == [("/api/v1/status", "http://x:5000")]
    assert done.exit_code == 0
    assert done.stdout.splitlines()[0] == "mirror       0.1.0, up 3 days"


def test_json_is_the_servers_answer(asked: list[tuple[str, str | None]]) -> None:
    done = CliRunner().invoke(main, ["status", "--format", "json"])
    assert json.loads(done.stdout) == STATUS
    assert asked == [("/api/v1/status", None)]


def test_no_room_is_said() -> None:
    full = {**STATUS, "data": {**STATUS["data"], "reserve_bytes": 300_000_000_000}}
    told = status.render(full, now=NOW)
    assert "room" in told
    assert "300" in told
    assert "room" not in status.render(STATUS, now=NOW)

"""Verbs on a pseudo-terminal, as a person sees them."""

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.cli.samples import detail, digest, image
from tests.cli.scripted import Scripted
from tests.cli.terminal import Session
from tests.cli.test_pull import ALPINE, LINES, ONE, end, layer, pulled
from tests.cli.test_push import LINES as PUSHED
from tests.cli.test_push import ONE as PUSHING
from tests.cli.test_search import RESULTS

PULLING = [
    ONE[0],
    layer(ALPINE, "a", "exists"),
    layer(ALPINE, "b", "waiting", 2_000_000),
    layer(ALPINE, "c", "waiting", 2_000_000),
]


def slow_pull() -> list[Any]:
    steps: list[Any] = list(PULLING)
    for done in range(0, 2_000_000, 200_000):
        steps += [
            layer(ALPINE, "b", "downloading", 2_000_000, done),
            layer(ALPINE, "c", "downloading", 2_000_000, done),
        ]
        steps.append(0.05)
    return [
        *steps,
        layer(ALPINE, "c", "complete", 2_000_000, 2_000_000),
        0.3,
        layer(ALPINE, "b", "complete", 2_000_000, 2_000_000),
        pulled(ALPINE),
        end(),
    ]


def test_a_push_on_a_terminal_draws_and_leaves_dockers_lines(api: Scripted) -> None:
    preparing, rest = PUSHING[:5], [event for event in PUSHING[5:] if event.get("state") != "pushing"]
    slowly = [{**PUSHING[7], "done": done} for done in range(0, 1000, 100)]
    api["POST /push"] = [*preparing, *(each for step in slowly for each in (step, 0.1)), *rest]
    with Session("push", "team/app:2", "--to", "ghcr.io/me") as session:
        session.until("cccccccccccc: Pushing [")
        session.until("pushing [")
        session.until("cccccccccccc: Pushed")
        assert session.end() == 0
    assert session.screen.lines() == [
        "The push refers to repository [ghcr.io/me/team/app]",
        *PUSHED.splitlines()[:4],
        *wrapped(PUSHED.splitlines()[4]),
        PUSHED.splitlines()[5],
    ]


def wrapped(line: str) -> list[str]:
    """As a terminal of 80 columns breaks it."""
    return [line[start : start + 80] for start in range(0, len(line), 80)]


def test_a_pull_on_a_terminal_draws_and_leaves_dockers_lines(api: Scripted) -> None:
    api["POST /pull"] = slow_pull()
    with Session("pull", "alpine") as session:
        session.until("cccccccccccc: Downloading [")
        session.until("pulling [")
        assert [line.split(" [")[0] for line in session.screen.lines()] == [
            "Using default tag: latest",
            "3.20: Pulling from library/alpine",
            "aaaaaaaaaaaa: Already exists",
            "bbbbbbbbbbbb: Downloading",
            "cccccccccccc: Downloading",
            "pulling",
        ]
        session.until("cccccccccccc: Pull complete")
        assert session.end() == 0
    assert session.screen.lines() == [
        "Using default tag: latest",
        "3.20: Pulling from library/alpine",
        "aaaaaaaaaaaa: Already exists",
        "cccccccccccc: Pull complete",
        "bbbbbbbbbbbb: Pull complete",
        f"Digest: {digest('d')}",
        "Status: Downloaded newer image for alpine:3.20",
        ALPINE,
    ]
    assert "\x1b[36m" in session.raw


@pytest.mark.parametrize(
    ("environ", "drawn"), [({"TERM": "dumb"}, False), ({"CI": "true"}, False), ({"NO_COLOR": "1"}, True)]
)
def test_where_it_draws_and_with_what(api: Scripted, environ: dict[str, str], drawn: bool) -> None:
    api["POST /pull"] = slow_pull()
    with Session("pull", "alpine:3.20", environ=environ) as session:
        assert session.end() == 0
    assert ("\x1b[K" in session.raw) is drawn
    assert "\x1b[36m" not in session.raw
    assert session.screen.lines()[-1] == ALPINE


def test_progress_and_results_part_where_results_go_to_a_file(api: Scripted, tmp_path: Path) -> None:
    api["POST /pull"] = [*PULLING[:1], layer(ALPINE, "b", "downloading", done=1), 0.3, *ONE[1:]]
    with Session("pull", "alpine:3.20", stdout=tmp_path / "out") as session:
        session.until("bbbbbbbbbbbb: Downloading")
        assert session.end() == 0
    assert (tmp_path / "out").read_text() == LINES
    assert session.screen.lines() == ["3.20: Pulling from library/alpine"]


def test_many_layers_on_a_small_screen(api: Scripted) -> None:
    api["POST /pull"] = [ONE[0], *(layer(ALPINE, letter, "downloading", 1000, 1) for letter in "0123456789abcdef"), 60]
    with Session("pull", "alpine:3.20", rows=6, columns=50) as session:
        session.until("pulling ")
        session.until("… and 13 more")
        assert len(session.screen.lines()) == 5
        session.write("\x03")
        assert session.end() == 130


def test_ctrl_c_ends_it_cleanly_and_says_that_nothing_is_lost(api: Scripted) -> None:
    api["POST /pull"] = [*PULLING, layer(ALPINE, "b", "downloading", 2_000_000, 5), 60]
    with Session("pull", "alpine:3.20", columns=100) as session:
        session.until("bbbbbbbbbbbb: Downloading")
        session.write("\x03")
        assert session.end() == 130
    assert session.screen.lines()[-1] == (
        "mirror: what was downloaded beside is kept; the next pull goes on from there"
    )
    assert "Traceback" not in session.raw
    assert "Downloading" not in " ".join(session.screen.lines())


def test_images_remark_what_they_come_to(api: Scripted) -> None:
    totals = {"images": 2, "bytes": 4_000_000}
    api["GET /images"] = {"images": [image(), image(tag="3")], "next": None, "totals": totals}
    with Session("images", columns=100) as session:
        assert session.end() == 0
    assert session.screen.lines()[-1] == "2 images, 4MB together: what they share is counted once"
    assert session.screen.lines()[1].split()[:3] == ["alpine", "3.20", "aaaaaaaaaaaa"]
    assert "\x1b" not in session.raw


def test_texts_are_cut_on_a_terminal(api: Scripted) -> None:
    api["GET /search"] = {"results": RESULTS}
    api["GET /image"] = detail()
    with Session("search", "nginx", columns=120) as session:
        session.end()
    assert session.screen.lines()[1] == (
        "nginx     Official build of Nginx, and a long descript…   20000     [OK]       [OK]"
    )
    with Session("history", "x", columns=150) as session:
        session.end()
    assert session.screen.lines()[3].startswith(
        "<missing>      5 weeks ago          /bin/sh -c #(nop) ADD file:37a737a737a737a73…"
    )
    with Session("search", "nginx", "--no-trunc", columns=150) as session:
        session.end()
    assert RESULTS[0]["description"] in session.screen.lines()[1]


def test_a_password_is_asked_for_and_not_shown(api: Scripted) -> None:
    api["POST /login"] = {}
    with Session("login", "ghcr.io") as session:
        session.until("Username:")
        session.write("me\n")
        session.until("Password:")
        session.write("s3cret\n")
        assert session.end() == 0
    assert api.last.body == {"registry": "ghcr.io", "username": "me", "password": "s3cret"}
    assert session.screen.lines() == ["Username: me", "Password:", "Login Succeeded"]
    assert "s3cret" not in session.raw


def test_ctrl_c_at_a_prompt(api: Scripted) -> None:
    with Session("login", "ghcr.io", "-u", "me") as session:
        session.until("Password:")
        session.write("\x03")
        assert session.end() == 130
    assert api.requests == []
    assert "Traceback" not in session.raw


def test_ctrl_c_in_the_command_that_is_the_mirror_leaves_those_that_joined(tmp_path: Path) -> None:
    """No mirror runs: the first one is it. Breaks if its Ctrl-C cuts the second one off."""
    with socket.create_server(("127.0.0.1", 0)) as silent:  # a registry that takes its time
        environ = {
            "MIRROR_DATA": str(tmp_path / "data"),
            "MIRROR_SOCKET": str(tmp_path / "s"),
            "MIRROR_MIN_FREE": "0",
            "MIRROR_REGISTRIES": json.dumps({"docker.io": {"url": f"http://127.0.0.1:{silent.getsockname()[1]}"}}),
        }
        with (
            Session("pull", "alpine:1", environ=environ, columns=100) as first,
            Session("pull", "busybox:1", environ=environ, columns=100) as second,
        ):
            first.until("1: Pulling from library/alpine")
            second.until("1: Pulling from library/busybox")
            owner, joined = (
                (first, second) if str(first.pid) in (tmp_path / "data/lock").read_text() else (second, first)
            )
            owner.write("\x03")
            owner.until("waiting for other commands, which use the mirror of this one; Ctrl-C breaks them off")
            joined.write("\x03")
            assert joined.end() == 130
            assert joined.screen.lines()[-1] == "mirror: interrupted. No image pulled until then"
            assert owner.end() == 130
            assert owner.screen.lines()[-2] == "mirror: interrupted. No image pulled until then"


def test_prune_asks_first(api: Scripted) -> None:
    api["POST /prune"] = [{"event": "deleted", "digest": digest("d")}, {"event": "freed", "bytes": 1000}, end()]
    with Session("prune") as session:
        session.until("Are you sure you want to continue? [y/N]")
        session.write("n\n")
        assert session.end() == 0
    assert session.screen.lines()[-1] == "Total reclaimed space: 0B"
    assert [request.body["dry_run"] for request in api.requests] == [True]


def test_verify_draws_one_bar(api: Scripted) -> None:
    steps = [{"event": "progress", "done": 30, "total": 1200, "bytes": 5000}, 0.4]
    api["POST /verify"] = [*steps, {"event": "progress", "done": 1200, "total": 1200, "bytes": 41_200_000}, end()]
    with Session("verify") as session:
        session.until("30 of 1,200 blobs, 5kB")
        assert session.screen.lines()[0].startswith("verifying [=>")
        assert session.end() == 0
    assert session.screen.lines() == ["1,200 blobs verified, 41.2MB"]

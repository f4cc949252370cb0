import json
import time
from typing import Any

import pytest

from mirror.cli import secret
from tests.cli.conftest import Run
from tests.cli.scripted import Raw, Request, Scripted, on_port, refusal

# --- users ------------------------------------------------------------------------------------------------


def test_a_user_is_added_with_a_password_from_standard_input(api: Scripted, run: Run) -> None:
    api["POST /users"] = {"username": "ci"}
    done = run("user", "add", "ci", "--password-stdin", stdin="s3cret\n")
    assert (done.exit_code, done.output) == (0, "")
    assert api.last.body == {"username": "ci", "password": "s3cret"}


def test_a_user_is_added_at_a_terminal(api: Scripted, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    api["POST /users"] = {}
    monkeypatch.setattr(secret, "check_terminal", lambda **_: None)
    answers = ["s3cret", "s3cret", "s3cret", "other"]
    monkeypatch.setattr(secret, "_hidden", lambda _: answers.pop(0))
    assert run("user", "add", "ci").exit_code == 0
    done = run("user", "add", "ci")
    assert (done.exit_code, done.stderr) == (2, "mirror: the two passwords are not the same\n")
    assert len(api.requests) == 1


@pytest.mark.parametrize(
    ("words", "stdin", "says"),
    [
        (["ci", "--password-stdin"], "", "a password is required"),
        (["a:b", "--password-stdin"], "x", "a user name cannot hold a colon"),
        (["ci"], "x", "Cannot ask for a password on a non TTY device: give --password-stdin."),
    ],
)
def test_users_that_cannot_be(api: Scripted, run: Run, words: list[str], stdin: str, says: str) -> None:
    done = run("user", "add", *words, stdin=stdin)
    assert (done.exit_code, done.stdout, api.requests) == (2, "", [])
    assert says in done.stderr
    assert "--username" not in done.stderr  # `user add` has no such option


@pytest.mark.parametrize("verb", ["remove", "rm"])
def test_users_are_removed(api: Scripted, run: Run, verb: str) -> None:
    def one(request: Request) -> Any:
        return refusal(404, "there is no user none", 4) if request.query["username"] == ["none"] else Raw(204)

    api["DELETE /users"] = one
    assert run("user", verb, "ci").output == ""
    done = run("user", verb, "none", "ci")
    assert (done.exit_code, done.stderr) == (3, "mirror: 1 of 2 failed:\nmirror:   there is no user none\n")


@pytest.mark.parametrize("users", [[{"username": "ci"}, {"username": "me"}], ["ci", "me"]])
def test_users_are_listed(api: Scripted, run: Run, users: list[Any]) -> None:
    api["GET /users"] = {"users": users}
    assert run("user", "list").stdout == run("user", "ls").stdout == "NAME\nci\nme\n"


def test_a_password_for_a_mirror_far_away_is_warned_of(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    far = Scripted()
    far["POST /users"] = {}
    monkeypatch.setattr("mirror.cli.servers.Server.exposes_secrets", True)
    with on_port(far) as authority:
        done = run("user", "add", "ci", "--password-stdin", "--server", authority, stdin="x")
    assert done.stderr == f"WARNING! http://{authority} is not https: the password can be read on its way there.\n"


# --- offline ----------------------------------------------------------------------------------------------


def test_the_switch(api: Scripted, run: Run) -> None:
    def put(request: Request) -> dict[str, Any]:
        return dict(request.body)

    api["GET /offline"] = {"offline": False}
    api["PUT /offline"] = put
    assert run("offline").stdout == "off\n"
    assert run("offline", "on").stdout == "on\n"
    assert api.last.body == {"offline": True}
    assert run("offline", "off").stdout == "off\n"
    assert run("offline", "perhaps").exit_code == 2


def test_who_may_not_switch_is_told(api: Scripted, run: Run) -> None:
    api["PUT /offline"] = refusal(403, "that needs the right admin", 5)
    done = run("offline", "on")
    assert (done.exit_code, done.stdout, done.stderr) == (5, "", "mirror: that needs the right admin\n")


# --- misses -----------------------------------------------------------------------------------------------


def test_misses(api: Scripted, run: Run) -> None:
    misses = [{"name": "docker.io/library/alpine:3.21", "count": 12, "last_at": time.time() - 7200}]
    api["GET /misses"] = {"misses": misses}
    assert run("misses", "--limit", "5").stdout == (
        "NAME          COUNT     LAST ASKED\nalpine:3.21   12        2 hours ago\n"
    )
    assert api.last.query == {"limit": ["5"]}
    assert json.loads(run("misses", "--format", "json").stdout) == misses
    assert run("misses", "--format", "{{.Name}}").stdout == "alpine:3.21\n"


def test_misses_begin_anew(api: Scripted, run: Run) -> None:
    api["DELETE /misses"] = Raw(204)
    done = run("misses", "--clear")
    assert (done.exit_code, done.output, api.asked) == (0, "", ["DELETE /misses"])

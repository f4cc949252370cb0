import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from mirror.cli import login as verbs
from mirror.cli import secret
from tests.cli.conftest import Run
from tests.cli.scripted import Raw, Request, Scripted, on_port, refusal

WORDS = ("-u", "me", "--password-stdin")


@pytest.fixture
def far(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[tuple[Scripted, str]]:
    """A mirror that wants logins, and its URL; docker's configuration is this test's own."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    script = Scripted()

    def ping(request: Request) -> Raw:
        wanted = "Basic " + base64.b64encode(b"me:s3cret").decode()
        return Raw(200 if request.headers.get("Authorization") == wanted else 401, b"{}")

    script["GET /v2/"] = ping
    with on_port(script) as authority:
        yield script, authority


def stored(tmp_path: Path) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = json.loads((tmp_path / "docker" / "config.json").read_text())["auths"]
    return found


# --- the mirror's own -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("words", "registry"), [(["ghcr.io"], "ghcr.io"), ([], "docker.io")])
def test_the_mirror_logs_in_to_a_registry(api: Scripted, run: Run, words: list[str], registry: str) -> None:
    api["POST /login"] = {"registry": registry, "username": "me", "stored_in": "/root/.docker/config.json"}
    done = run("login", *words, *WORDS, stdin="s3cret\n")
    assert (done.exit_code, done.stdout) == (0, "Login Succeeded\n")
    assert done.stderr == "Stored by the mirror in /root/.docker/config.json\n"
    assert api.last.body == {"registry": registry, "username": "me", "password": "s3cret"}


def test_a_person_at_a_terminal_is_asked(api: Scripted, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    api["POST /login"] = {}
    monkeypatch.setattr(secret, "check_terminal", lambda **_: None)
    monkeypatch.setattr(secret, "_hidden", lambda _: "s3cret")
    done = run("login", "ghcr.io", stdin="me\n")
    assert (done.stdout, done.stderr) == ("Login Succeeded\n", "Username: ")
    assert api.last.body["username"] == "me"


@pytest.mark.parametrize(
    ("stdin", "password"), [("a\r\n", "a"), ("a\n\n", "a\n"), (" a ", " a "), ("a", "a"), ("pä:ss", "pä:ss")]
)
def test_the_line_end_is_no_part_of_a_password(api: Scripted, run: Run, stdin: str, password: str) -> None:
    api["POST /login"] = {}
    run("login", *WORDS, stdin=stdin)
    assert api.last.body["password"] == password


@pytest.mark.parametrize(
    ("words", "stdin", "says"),
    [
        (["--password-stdin"], "x", "Must provide --username with --password-stdin."),
        (["-u", "me"], "x", "Cannot perform an interactive login from a non TTY device: give --username"),
        ([], "x", "Cannot perform an interactive login from a non TTY device"),
        (WORDS, "", "a password is required"),
        (WORDS, "\n", "a password is required"),
        (WORDS, b"\xff", "the password on standard input is not UTF-8"),
        (WORDS, "x" * (65 << 10), "too long for a password"),
        (["-u", "", "--password-stdin"], "x", "a user name is required"),
    ],
)
def test_logins_that_cannot_be(api: Scripted, run: Run, words: list[str], stdin: str, says: str) -> None:
    done = run("login", *words, stdin=stdin)
    assert (done.exit_code, done.stdout, api.requests) == (2, "", [])
    assert says in done.stderr


def test_a_registry_that_refuses(api: Scripted, run: Run) -> None:
    api["POST /login"] = refusal(401, "ghcr.io refused this user name and password; nothing was stored", 5)
    done = run("login", "ghcr.io", *WORDS, stdin="wrong")
    assert (done.exit_code, done.stdout) == (5, "")
    assert done.stderr == "mirror: ghcr.io refused this user name and password; nothing was stored\n"


def test_logout_of_a_registry(api: Scripted, run: Run) -> None:
    api["POST /logout"] = {"registry": "ghcr.io", "removed": True}
    assert run("logout", "ghcr.io").stdout == "Removing login credentials for ghcr.io\n"
    assert api.last.body == {"registry": "ghcr.io"}
    api["POST /logout"] = {"registry": "docker.io", "removed": False}
    done = run("logout")
    assert (done.exit_code, done.stdout) == (0, "Not logged in to docker.io\n")
    assert api.last.body == {"registry": "docker.io"}


# --- this user's, at a mirror -----------------------------------------------------------------------------


def test_this_user_logs_in_to_a_mirror(far: tuple[Scripted, str], run: Run, tmp_path: Path) -> None:
    script, authority = far
    done = run("login", "--server", f"http://{authority}", *WORDS, stdin="s3cret")
    assert (done.exit_code, done.stdout) == (0, "Login Succeeded\n")
    path = tmp_path / "docker" / "config.json"
    assert done.stderr == f"WARNING! Your credentials are stored unencrypted in '{path}'.\n"
    assert stored(tmp_path) == {authority: {"auth": base64.b64encode(b"me:s3cret").decode()}}
    assert script.asked == ["GET /v2/", "GET /v2/"]


def test_the_login_is_used_from_then_on(far: tuple[Scripted, str], run: Run) -> None:
    script, authority = far
    script["GET /offline"] = {"offline": True}
    run("login", "--server", authority, *WORDS, stdin="s3cret")
    assert run("offline", "--server", authority).stdout == "on\n"
    assert script.last.headers["Authorization"].startswith("Basic ")


def test_a_wrong_password_is_not_stored(far: tuple[Scripted, str], run: Run, tmp_path: Path) -> None:
    _, authority = far
    done = run("login", "--server", authority, *WORDS, stdin="wrong")
    assert (done.exit_code, done.stdout) == (5, "")
    assert done.stderr == f"mirror: http://{authority} refused this user name and password; nothing was stored\n"
    assert not (tmp_path / "docker").exists()


def test_a_mirror_without_users_is_no_success(far: tuple[Scripted, str], run: Run, tmp_path: Path) -> None:
    """Whatever the password, nobody there looks at it."""
    script, authority = far
    script["GET /v2/"] = Raw(200, b"{}")
    done = run("login", "--server", authority, *WORDS, stdin="whatever")
    assert (done.exit_code, done.stdout) == (0, "")
    assert done.stderr == (
        f"http://{authority} has no users and ignores credentials, so it needs no login; nothing was stored\n"
    )
    assert not (tmp_path / "docker").exists()


@pytest.mark.parametrize("status", [401, 403, 429, 503])
def test_whoever_answers_otherwise_without_a_password_has_looked_at_it(
    far: tuple[Scripted, str], run: Run, status: int
) -> None:
    """And a password that is wrong on purpose would count as somebody's guess: it is another scheme that is asked."""
    script, authority = far
    schemes: list[str] = []

    def ping(request: Request) -> Raw:
        schemes.append(request.headers["Authorization"].partition(" ")[0])
        return Raw(200 if schemes == ["Basic"] else status, b"{}")

    script["GET /v2/"] = ping
    assert run("login", "--server", authority, *WORDS, stdin="s3cret").stdout == "Login Succeeded\n"
    assert schemes == ["Basic", "Bearer"]


def test_what_is_no_mirror_is_not_given_a_login(far: tuple[Scripted, str], run: Run, tmp_path: Path) -> None:
    script, authority = far
    script["GET /v2/"] = Raw(404, b"<html>")
    done = run("login", "--server", authority, *WORDS, stdin="s3cret")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "answered 404, but not as a mirror does; nothing was stored" in done.stderr
    assert not (tmp_path / "docker").exists()


def test_logout_of_a_mirror(far: tuple[Scripted, str], run: Run, tmp_path: Path) -> None:
    _, authority = far
    assert run("logout", "--server", authority).stdout == f"Not logged in to {authority}\n"
    run("login", "--server", authority, *WORDS, stdin="s3cret")
    assert run("logout", "--server", authority).stdout == f"Removing login credentials for {authority}\n"
    assert stored(tmp_path) == {}


def test_a_registrys_password_is_not_sent_in_the_clear_without_a_word(
    far: tuple[Scripted, str], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    script, authority = far
    script["POST /login"] = {}
    monkeypatch.setattr("mirror.cli.servers.Server.exposes_secrets", True)
    done = run("login", "ghcr.io", "--server", authority, *WORDS, stdin="s3cret")
    assert done.stderr == f"WARNING! http://{authority} is not https: the password can be read on its way there.\n"


def test_a_socket_needs_no_login(run: Run, tmp_path: Path) -> None:
    for verb in ("login", "logout"):
        done = run(verb, "--server", f"unix://{tmp_path}/x")
        assert done.exit_code == 2
        assert "A socket needs no login." in done.stderr
    assert verbs._own_target("ghcr.io", f"unix://{tmp_path}/x") is None

import base64
import json
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from mirror import errors
from mirror.cli import servers, transport
from tests.cli.scripted import BREAK, Raw, Request, Scripted, failed, on_port, on_socket, refusal

EVENTS = [{"event": "image", "name": "x"}, {"event": "end", "ok": 1, "failed": 0}]


@pytest.fixture
def script(tmp_path: Path) -> Any:
    played = Scripted()
    with on_socket(tmp_path / "s", played):
        yield played


def api(tmp_path: Path) -> transport.Api:
    return transport.Api(servers.parse_server(f"{tmp_path}/s"))


# --- documents --------------------------------------------------------------------------------------------


def test_a_question_and_its_document(tmp_path: Path, script: Scripted) -> None:
    script["GET /tags"] = {"tags": []}
    with api(tmp_path) as asked:
        assert asked.get(
            "/tags", {"repository": "a/b c", "history": True, "limit": None, "filter": ["x=1", "y=2"]}
        ) == {"tags": []}
    assert script.last.query == {"repository": ["a/b c"], "history": ["true"], "filter": ["x=1", "y=2"]}
    assert script.last.headers["Accept"] == "application/json"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_what_changes_something_carries_json(tmp_path: Path, script: Scripted, method: str) -> None:
    script[f"{method} /x"] = {"done": True}
    with api(tmp_path) as asked:
        assert asked.call(method, "/x", {"a": [1]}) == {"done": True}
    assert script.last.body == {"a": [1]}
    assert script.last.headers["Content-Type"] == "application/json"


@pytest.mark.parametrize("answer", [Raw(204), Raw(200, b"[]"), Raw(200, b"null")])
def test_an_answer_without_a_document_is_an_empty_one(tmp_path: Path, script: Scripted, answer: Raw) -> None:
    script["DELETE /misses"] = answer
    with api(tmp_path) as asked:
        if answer.body == b"null":
            with pytest.raises(errors.MirrorError, match="not as a mirror does"):
                asked.call("DELETE", "/misses")
        else:
            assert asked.call("DELETE", "/misses") == {}


def test_one_connection_serves_a_whole_verb(tmp_path: Path, script: Scripted) -> None:
    script["GET /x"] = {}
    with api(tmp_path) as asked:
        for _ in range(3):
            asked.get("/x")
    assert script.connections == 1


def test_a_connection_that_was_idle_is_made_anew(
    tmp_path: Path, script: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    script["GET /x"] = {}
    monkeypatch.setattr(transport, "_KEPT_S", -1.0)
    with api(tmp_path) as asked:
        asked.get("/x")
        asked.get("/x")
    assert script.connections == 2


# --- pages ------------------------------------------------------------------------------------------------


def page(request: Request) -> dict[str, Any]:
    at = int(request.query.get("cursor", ["0"])[0])
    return {"images": [{"n": at}, {"n": at + 1}], "next": str(at + 2) if at < 4 else None}


def test_pages_are_gone_through_to_the_last(tmp_path: Path, script: Scripted) -> None:
    script["GET /images"] = page
    with api(tmp_path) as asked:
        found = [
            image["n"] for each in asked.pages("/images", "images", {"repository": "a"}) for image in each["images"]
        ]
    assert found == [0, 1, 2, 3, 4, 5]
    assert {request.query["repository"][0] for request in script.requests} == {"a"}


def test_a_limit_ends_it_and_is_passed_on(tmp_path: Path, script: Scripted) -> None:
    script["GET /images"] = page
    with api(tmp_path) as asked:
        assert len(list(asked.pages("/images", "images", {}, limit=3))) == 2
    assert [request.query["limit"] for request in script.requests] == [["3"], ["1"]]


def test_a_cursor_that_comes_again_ends_it(tmp_path: Path, script: Scripted) -> None:
    script["GET /images"] = {"images": [], "next": "same"}
    with api(tmp_path) as asked:
        assert len(list(asked.pages("/images", "images", {}))) == 2


# --- streams ----------------------------------------------------------------------------------------------


def test_events_come_as_they_are_sent(tmp_path: Path, script: Scripted) -> None:
    script["POST /pull"] = [EVENTS[0], b'{"event": "la', b'yer"}\n\n', EVENTS[1], {"event": "after the end"}]
    with api(tmp_path) as asked:
        events = list(asked.stream("/pull", {"references": ["x"]}))
    assert events == [EVENTS[0], {"event": "layer"}, EVENTS[1]]
    assert script.last.body == {"references": ["x"]}


@pytest.mark.parametrize(
    ("events", "says"),
    [
        ([EVENTS[0]], "it ended in the middle"),
        ([EVENTS[0], BREAK], "broke off"),
        ([b"<html>\n"], "it sent what is no event"),
        ([b"[1]\n"], "it sent what is no event"),
        ([b'{"event": "end"'], "it ended in the middle"),
    ],
)
def test_a_stream_that_does_not_end_is_broken(tmp_path: Path, script: Scripted, events: list[Any], says: str) -> None:
    script["POST /pull"] = events
    with (
        api(tmp_path) as asked,
        pytest.raises(transport.BrokeOff, match="broke off: ") as caught,
    ):
        list(asked.stream("/pull", {}))
    assert says in caught.value.message


def test_a_stream_that_is_refused(tmp_path: Path, script: Scripted) -> None:
    script["POST /pull"] = refusal(403, "not for you", 5)
    with api(tmp_path) as asked, pytest.raises(errors.Denied, match="not for you"):
        list(asked.stream("/pull", {}))


def test_a_line_without_an_end_is_cut_off(tmp_path: Path, script: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "_LINE_BYTES", 10)
    script["POST /pull"] = [b'{"event": "a long one that goes on"']
    with api(tmp_path) as asked, pytest.raises(errors.ServerUnreachable, match="broke off"):
        list(asked.stream("/pull", {}))


@pytest.mark.parametrize(
    ("code", "error"),
    [(4, errors.NameUnknown), (7, errors.DigestInvalid), (9, errors.Offline), (77, errors.MirrorError)],
)
def test_an_event_that_tells_of_a_failure(code: int, error: type[errors.MirrorError]) -> None:
    made = transport.error_of(failed("x", "because", code))
    assert type(made) is error
    assert made.message == "because"
    assert transport.error_of({"event": "error", "exit_code": "x"}).message == "failed, and the mirror did not say why"


# --- refusals ---------------------------------------------------------------------------------------------


def shaped(code: str) -> bytes:
    return json.dumps({"errors": [{"code": code, "message": "because"}]}).encode()


@pytest.mark.parametrize(
    ("status", "body", "error", "says"),
    [
        (401, shaped("UNAUTHORIZED"), errors.Unauthorized, "because"),
        (403, shaped("DENIED"), errors.Denied, "because"),
        (404, shaped("NAME_UNKNOWN"), errors.NameUnknown, "because"),
        (429, shaped("TOOMANYREQUESTS"), errors.TooManyRequests, "because"),
        (503, shaped("UNAVAILABLE"), errors.Unavailable, "because"),
        (500, b"", errors.MirrorError, "answered 500, but not as a mirror does; is it one?"),
        (200, b"<html>", errors.MirrorError, "answered 200, but not as a mirror does"),
        (200, b"[" * 100_000, errors.MirrorError, "answered 200, but not as a mirror does"),
        (301, b"{}", errors.MirrorError, "answered 301"),
        (404, b'{"errors": []}', errors.NameUnknown, "answered 404"),
    ],
)
def test_a_refusal_becomes_the_error_with_its_exit_code(
    tmp_path: Path, script: Scripted, status: int, body: bytes, error: type[errors.MirrorError], says: str
) -> None:
    script["GET /x"] = Raw(status, body)
    with pytest.raises(error) as caught:
        transport.get_json("/x", server=f"{tmp_path}/s", environ={})
    assert type(caught.value) is error
    assert says in caught.value.message


@pytest.mark.parametrize("code", [1, 2, 4, 5, 6, 7, 8, 9])
def test_the_exit_code_that_the_mirror_names_is_used(tmp_path: Path, script: Scripted, code: int) -> None:
    script["GET /x"] = refusal(404, "because", code)
    with pytest.raises(errors.MirrorError) as caught:
        transport.get_json("/x", server=f"{tmp_path}/s", environ={})
    assert caught.value.exit_code == code


def test_an_answer_over_its_cap_is_none(tmp_path: Path, script: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    script["GET /x"] = {"version": "1"}
    monkeypatch.setattr(transport, "_ANSWER_BYTES", 10)
    with pytest.raises(errors.MirrorError, match="is it one"):
        transport.get_json("/x", server=f"{tmp_path}/s", environ={})


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0-x\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"])
def test_a_server_that_speaks_otherwise_or_breaks_off(tmp_path: Path, answer: bytes) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def reply() -> None:
            peer: Any
            peer, _ = listener.accept()
            with peer:
                peer.recv(4096)
                peer.sendall(answer)

        thread = threading.Thread(target=reply)
        thread.start()
        with pytest.raises(errors.ServerUnreachable, match="no mirror answers at"):
            transport.get_json("/x", server=str(path), environ={})
        thread.join()


def test_a_port_nobody_listens_on() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(
        errors.ServerUnreachable, match=f"no mirror answers at http://127.0.0.1:{port}: Connection refused"
    ):
        transport.get_json("/x", server=f"http://127.0.0.1:{port}", environ={})


# --- logins -----------------------------------------------------------------------------------------------


def test_this_users_login_goes_to_the_mirror_it_is_for(tmp_path: Path) -> None:
    played = Scripted()
    played["GET /x"] = {}
    with on_port(played) as authority:
        auth = base64.b64encode(b"me:pa:ss").decode()
        (tmp_path / "config.json").write_text(json.dumps({"auths": {authority: {"auth": auth}}}))
        transport.get_json("/x", server=authority, environ={"DOCKER_CONFIG": str(tmp_path)})
        assert played.last.headers["Authorization"] == f"Basic {auth}"
        transport.get_json("/x", server=authority, environ={"HOME": str(tmp_path)})
        assert "Authorization" not in played.last.headers


def test_a_mirror_that_wants_a_login_says_how(tmp_path: Path) -> None:
    played = Scripted()
    played["GET /x"] = refusal(401, "log in first", 5)
    with on_port(played) as authority, pytest.raises(errors.Denied) as caught:
        transport.get_json("/x", server=authority, environ={"HOME": str(tmp_path)})
    assert caught.value.message == f"log in first; log in with `mirror login --server http://{authority}`"


def test_patience_ends(tmp_path: Path) -> None:
    script = Scripted()
    script["GET /x"] = [1.0]
    with on_socket(tmp_path / "s", script):
        server = servers.parse_server(str(tmp_path / "s"))
        with transport.Api(server, patience=0.1) as api, pytest.raises(errors.ServerUnreachable, match="timed out"):
            api.get("/x")

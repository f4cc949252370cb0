"""What a registry's error body says, made fit for people."""

import json

import aiohttp
import pytest

from mirror.upstream.auth import Authorization
from mirror.upstream.complaints import complaint, parse_complaint
from mirror.upstream.credentials import Credential
from mirror.upstream.transport import Response
from tests.support.fake_registry import Behaviour, FakeRegistry
from tests.support.fake_registry import behaviours as b


def said(code: object, message: object) -> bytes:
    return json.dumps({"errors": [{"code": code, "message": message}, {"code": "SECOND"}]}).encode()


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (said("DENIED", "requested access is denied."), "DENIED: requested access is denied"),
        (said("DENIED", ""), "DENIED"),
        (said("DENIED", None), "DENIED"),
        (said(17, "no code"), "no code"),
        (said("\x1b[31m", "no code"), "no code"),
        (b'{"message": "of a proxy"}', "of a proxy"),
        (b'{"errors": []}', ""),
        (b'{"errors": ["text"]}', ""),
        (b'{"errors": {"code": "X"}}', ""),
        (b"[]", ""),
        (b"<html>no</html>", ""),
        (b"", ""),
        (b"\xff\xfe", ""),
        (b"[" * 100_000, ""),
    ],
)
def test_the_first_error(raw: bytes, text: str) -> None:
    assert parse_complaint(raw) == text


def test_it_is_short_and_prints() -> None:
    """Fails if a registry can fill a log, or move the cursor of who reads it."""
    assert len(parse_complaint(said("DENIED", "long " * 10_000))) < 320
    assert parse_complaint(said("A", "one\n\n  two\x1b[2J\u202ethree é")) == "A: one two [2J three é"


@pytest.mark.parametrize(
    "message",
    [
        "at https://user:hidden@x.test/y",
        "at /v2/x/blobs/uploads/1?_state=hidden",
        "Authorization: Bearer hidden",
        "authorization: basic hidden+/=",
        "token hidden",
    ],
)
def test_no_secret_stands_in_it(message: str) -> None:
    assert "hidden" not in parse_complaint(said("A", message), ("hidden",) if message.startswith("token") else ())


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        (b.status(403, body=said("DENIED", "no")), "DENIED: no"),
        (b.status(403, body=said("DENIED", "x" * 70_000)), ""),
        (b.both(b.status(403, body=said("DENIED", "no")), b.close_after(5)), ""),
        (b.both(b.status(403, body=said("DENIED", "no")), b.hang_after(5)), ""),
    ],
    ids=["whole", "too large", "broken", "hanging"],
)
async def test_of_an_answer(
    registry: FakeRegistry, fault: Behaviour, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails if a refusal is lost because its reason cannot be read."""
    monkeypatch.setattr("mirror.upstream.complaints.COMPLAINT_SECONDS", 0.2)
    registry.script("*", fault, times=None)
    async with aiohttp.ClientSession(response_class=Response) as session:
        response = await session.get(f"{registry.url}/v2/")
        assert isinstance(response, Response)
        assert await complaint(response, None, registry="registry.test") == text
        assert response.closed
        response = await session.head(f"{registry.url}/v2/")
        assert isinstance(response, Response)
        assert await complaint(response, None, registry="registry.test") == ""


async def test_what_we_have_shown_does_not_come_back(registry: FakeRegistry) -> None:
    credential = Credential("alice", "pass-word-7")
    token = Authorization("bearer", "secret-token-1", credential)
    password = Authorization("basic", credential.basic, credential)
    text = f"{credential.basic} {credential.basic[6:]} secret-token-1 pass-word-7 of alice"
    async with aiohttp.ClientSession(response_class=Response) as session:
        for sent in (token, password):
            registry.script("*", b.status(400, body=said("A", text)))
            response = await session.get(f"{registry.url}/v2/")
            assert isinstance(response, Response)
            told = await complaint(response, sent, registry="registry.test")
            shown = ("pass-word-7", credential.basic[6:], *(("secret-token-1",) if sent is token else ()))
            assert all(secret not in told for secret in shown)
            assert told.endswith("of alice")

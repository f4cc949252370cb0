"""How an answer goes wrong: each returns a function to hand to `FakeRegistry.script`.

A behaviour gets the request and the honest answer, and gives back the answer that is sent. `both` chains them. A write
that is answered by another status, a redirect or a challenge did not happen; one whose answer is lost did.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

from multidict import CIMultiDict

from tests.support.fake_registry.intake import Gate
from tests.support.fake_registry.wire import Answer, Behaviour, Request

HONEST: Behaviour = lambda _request, answer: answer  # noqa: E731 — a constant among functions that make such


def both(*behaviours: Behaviour) -> Behaviour:
    """One after the other."""

    def behave(request: Request, answer: Answer) -> Answer:
        for behaviour in behaviours:
            answer = behaviour(request, answer)
        return answer

    return behave


def close_after(count: int) -> Behaviour:
    """Send `count` body bytes, then end the connection although more was promised."""
    return lambda _, answer: replace(answer, stop_after=count, then="close")


def reset_after(count: int) -> Behaviour:
    """Send `count` body bytes, then a RST."""
    return lambda _, answer: replace(answer, stop_after=count, then="reset")


def hang_after(count: int, gate: Gate | None = None) -> Behaviour:
    """Send `count` body bytes, then nothing until the gate is released; then the connection ends."""
    return lambda _, answer: replace(answer, stop_after=count, then="hang", hold_body=gate)


def hang(gate: Gate | None = None) -> Behaviour:
    """Say nothing, not even headers, until the gate is released; then answer honestly."""
    held = gate or Gate()
    return lambda _, answer: replace(answer, hold=held)


def reset() -> Behaviour:
    """A RST instead of an answer."""
    return lambda _, answer: replace(answer, reset_at_once=True)


def close() -> Behaviour:
    """End the connection without an answer."""
    return lambda _, answer: replace(answer, raw=b"")


def garbage(data: bytes = b"\x16\x03\x01 this is not HTTP\r\n\r\n") -> Behaviour:
    """Bytes that are no HTTP."""
    return lambda _, answer: replace(answer, raw=data)


def declared_length(length: int) -> Behaviour:
    """Content-Length says `length`, whatever follows; then the connection ends."""
    return lambda _, answer: replace(answer, length=length)


def no_length() -> Behaviour:
    """No Content-Length: the body ends with the connection."""
    return lambda _, answer: replace(answer, length=-1)


def chunked() -> Behaviour:
    """Transfer-Encoding: chunked, so no length either."""
    return lambda _, answer: replace(answer, chunked=True)


def pace(bytes_per_second: float) -> Behaviour:
    """Send slowly."""
    return lambda _, answer: replace(answer, pace=bytes_per_second)


def wrong_bytes(change: Callable[[bytes], bytes] | None = None) -> Behaviour:
    """Other bytes of (unless `change` does otherwise) the same length: the last one differs."""

    def behave(_: Request, answer: Answer) -> Answer:
        body = b"".join(answer.slices())
        wrong = change(body) if change else body[:-1] + bytes([body[-1] ^ 1]) if body else body
        return replace(answer, body=wrong, start=0, end=None)

    return behave


def header(name: str, value: str | None) -> Behaviour:
    """Set one header, or leave it out: a lying `Docker-Content-Digest`, a wrong `Content-Range`, `RateLimit-…`."""

    def behave(_: Request, answer: Answer) -> Answer:
        headers = answer.headers.copy()
        headers.popall(name, None)
        if value is not None:
            headers[name] = value
        return replace(answer, headers=headers)

    return behave


def status(code: int, *, headers: dict[str, str] | None = None, body: bytes | None = None) -> Behaviour:
    """Another status and an error body."""
    text = (
        json.dumps({"errors": [{"code": "UNKNOWN", "message": f"scripted {code}"}]}).encode() if body is None else body
    )

    def behave(_request: Request, _answer: Answer) -> Answer:
        return Answer(code, CIMultiDict({"Content-Type": "application/json", **(headers or {})}), text)

    return behave


def limited(retry_after: str | None = "60") -> Behaviour:
    """429, as Docker Hub says it; `Retry-After` in seconds or as a date."""
    return status(429, headers={} if retry_after is None else {"Retry-After": retry_after})


def redirect(location: str, code: int = 307) -> Behaviour:
    """A redirect. `{target}` in `location` is the request's path and query."""

    def behave(request: Request, _: Answer) -> Answer:
        return Answer(code, CIMultiDict({"Location": location.replace("{target}", request.target)}))

    return behave


def challenge(*challenges: str) -> Behaviour:
    """401 with these `WWW-Authenticate` lines, whatever was sent: a loop."""

    def behave(_request: Request, _answer: Answer) -> Answer:
        headers: CIMultiDict[str] = CIMultiDict()
        for value in challenges:
            headers.add("WWW-Authenticate", value)
        return Answer(401, headers)

    return behave


def ignore_range() -> Behaviour:
    """200 with the whole body although a range was asked for."""
    return lambda _, answer: answer if answer.whole is None else answer.whole

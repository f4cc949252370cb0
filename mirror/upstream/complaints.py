"""What a registry says when it refuses: its error body (distribution-spec, "Error Codes") as one sentence.

The text is another's, and it is shown to people and written to logs: it is cut short, stripped of what a terminal
would obey, and of what is secret between that registry and us.
"""

import asyncio
import json
import re
from typing import Any

from mirror.errors import UpstreamError
from mirror.upstream.auth import Authorization
from mirror.upstream.bodies import drain, read_capped
from mirror.upstream.transport import Response

COMPLAINT_LIMIT = 1 << 16
COMPLAINT_SECONDS = 10.0
_LONGEST = 300
_CODE = re.compile(r"[A-Za-z][A-Za-z0-9_ ]{0,63}")
_QUERY = re.compile(r"\?[^\s\"'<>]*")
_USERINFO = re.compile(r"(?<=://)[^\s/@]+@")
_AUTHORIZATION = re.compile(r"\b(Basic|Bearer)\s+[\w.~+/=-]+", re.IGNORECASE)


async def complaint(response: Response, sent: Authorization | None, *, registry: str) -> str:
    """What the answer says against it, its code first: `DENIED: not your repository`. Empty where it says nothing.

    Nothing is raised where the body cannot be had or is no error body. The answer is closed.
    """
    if response.method == "HEAD":
        await drain(response)
        return ""
    try:
        async with asyncio.timeout(COMPLAINT_SECONDS):
            raw = await read_capped(response, COMPLAINT_LIMIT, registry=registry, what="error")
    except (UpstreamError, TimeoutError):
        return ""
    return parse_complaint(raw, _secrets(sent))


def parse_complaint(raw: bytes, secrets: tuple[str, ...] = ()) -> str:
    """Read an error body; what stands in `secrets` is left out of what it says."""
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        return ""
    error = _first(value)
    code, message = error.get("code"), error.get("message")
    known = code if isinstance(code, str) and _CODE.fullmatch(code) else ""
    said = _harmless(message, secrets) if isinstance(message, str) else ""
    return ": ".join(filter(None, (known, said)))


def _first(value: Any) -> dict[str, Any]:
    """The first error of the list; or the body itself, as token services and proxies write theirs."""
    if not isinstance(value, dict):
        return {}
    errors = value.get("errors")
    first = errors[0] if isinstance(errors, list) and errors else value
    return first if isinstance(first, dict) else {}


def _harmless(text: str, secrets: tuple[str, ...]) -> str:
    text = text[: 16 * _LONGEST]
    for secret in secrets:
        text = text.replace(secret, "…")
    text = _AUTHORIZATION.sub(r"\1 …", _USERINFO.sub("", _QUERY.sub("", text)))
    text = "".join(c if c.isprintable() else " " for c in text)
    text = " ".join(text.split())
    return (text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…").rstrip(".")


def _secrets(sent: Authorization | None) -> tuple[str, ...]:
    """All that was shown, longest first."""
    if sent is None:
        return ()
    shown = [sent.secret]
    if sent.credential is not None:
        shown += [sent.credential.basic, sent.credential.basic.removeprefix("Basic "), sent.credential.secret]
    return tuple(sorted(filter(None, shown), key=len, reverse=True))

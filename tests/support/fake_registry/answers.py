"""What all kinds of fake registries answer with, and how they read a path."""

from __future__ import annotations

import json

from multidict import CIMultiDict

from tests.support.fake_registry.wire import Answer, Request


def ranged(request: Request, whole: Answer, *, honoured: bool) -> Answer:
    """206, 416 or the whole, as the request's Range says (RFC 9110, 14)."""
    if not honoured:
        return whole
    whole.headers["Accept-Ranges"] = "bytes"
    try:
        span = request.range(whole.size)
    except ValueError:
        return Answer(416, CIMultiDict({"Content-Range": f"bytes */{whole.size}"}))
    if span is None:
        return whole
    part = whole.with_range(*span)
    part.status = 206
    part.headers = whole.headers.copy()
    part.headers["Content-Range"] = f"bytes {span[0]}-{span[1] - 1}/{whole.size}"
    part.whole = whole
    return part


def failure(status: int, code: str, message: str = "") -> Answer:
    """An error as registries write it (distribution-spec, "Error Codes")."""
    body = json.dumps({"errors": [{"code": code, "message": message or code.lower()}]}).encode()
    return Answer(status, CIMultiDict({"Content-Type": "application/json"}), body)


def s3_error(status: int, code: str, message: str = "") -> Answer:
    """An error as S3 writes it."""
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
    return Answer(status, CIMultiDict({"Content-Type": "application/xml"}), body)


def split_path(parts: list[str]) -> tuple[str | None, str, str]:
    """Repository, kind, reference of a path below /v2/; kind "uploads" has the upload's id, empty for a new one."""
    if len(parts) >= 3 and parts[-2:] == ["blobs", "uploads"]:
        return "/".join(parts[:-2]), "uploads", ""
    if len(parts) >= 4 and parts[-3:-1] == ["blobs", "uploads"]:
        return "/".join(parts[:-3]), "uploads", parts[-1]
    if len(parts) >= 3 and parts[-2] in ("manifests", "blobs", "tags", "referrers"):
        return "/".join(parts[:-2]), parts[-2], parts[-1]
    return None, "", ""

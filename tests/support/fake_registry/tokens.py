"""Who may read from a fake registry, and push to it: anybody, Basic, or a Bearer token service (distribution
`spec/auth/token.md`).
"""

from __future__ import annotations

import base64
import binascii
import enum
import fnmatch
import itertools
import json
import time
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import parse_qs

from multidict import CIMultiDict

from tests.support.fake_registry.wire import Answer, Request

_NUMBERS = itertools.count()


class Verdict(enum.Enum):
    """What `Access.judge` decides where it is not an answer of its own."""

    ALLOWED = "allowed"
    UNKNOWN = "unknown"


@dataclass(slots=True)
class Token:
    """One that was given out: for whom, to read and write which repositories, until when (monotonic)."""

    user: str | None
    repositories: frozenset[str]
    expires: float
    grants: frozenset[tuple[str, str]] = frozenset()  # (repository, "push" or "delete")


@dataclass(slots=True)
class Access:
    """The rules. Every field may be changed at any time.

    `hub`: a missing or private repository is 401 even with a token, as on Docker Hub; else missing is 404 and
    private 403. `denies`: the token service itself refuses (403) what it may not grant, as GHCR's.
    """

    scheme: Literal["none", "basic", "bearer"] = "none"
    users: dict[str, str] = field(default_factory=dict)
    private: list[str] = field(default_factory=list)  # shell patterns of repositories that need a user
    readers: dict[str, list[str]] = field(default_factory=dict)  # user → patterns; missing: everything
    writers: dict[str, list[str]] | None = None  # user → patterns he may push to and delete from; None: everybody may
    hub: bool = False
    denies: bool = False
    expired: int = 401  # the status for a token or password that is no longer good; ECR says 403
    identity_tokens: dict[str, str] = field(default_factory=dict)  # refresh token → user
    token_path: str = "/token"
    realm: str | None = None  # instead of this registry's own
    service: str = "fake"
    token_seconds: float = 300.0
    token_field: str = "token"
    tell_expiry: bool = True
    tokens: dict[str, Token] = field(default_factory=dict)

    def judge(self, request: Request, name: str | None, *, known: bool, realm: str) -> Verdict | Answer:
        """Whether `request` may do this with repository `name` (None: the ping)."""
        if self.scheme == "none":
            return Verdict.ALLOWED if self._may(None, name, _action(request)) else _refusal(403, "DENIED")
        if self.scheme == "basic":
            return self._judge_basic(request, name)
        return self._judge_bearer(request, name, known=known, realm=self.realm or realm)

    def _judge_basic(self, request: Request, name: str | None) -> Verdict | Answer:
        user = self._basic_user(request)
        if user is not None and self._may(user, name, _action(request)):
            return Verdict.ALLOWED
        if user is not None:
            return _refusal(403, "DENIED")
        stale = "Authorization" in request.headers
        return _refusal(self.expired if stale else 401, "UNAUTHORIZED", 'Basic realm="fake"')

    def _judge_bearer(self, request: Request, name: str | None, *, known: bool, realm: str) -> Verdict | Answer:
        action = _action(request)
        scope = "" if name is None else f',scope="{_scopes(request, name, action)}"'
        challenge = f'Bearer realm="{realm}",service="{self.service}"{scope}'
        kind, _, secret = request.headers.get("Authorization", "").partition(" ")
        token = self.tokens.get(secret) if kind.lower() == "bearer" else None
        if token is None or token.expires < time.monotonic():
            return _refusal(self.expired if token else 401, "UNAUTHORIZED", challenge)
        if name is None:
            return Verdict.ALLOWED
        granted = name in token.repositories if action == "pull" else (name, action) in token.grants
        if not known and not self.hub and (action != "push" or not granted):
            return Verdict.UNKNOWN if action == "pull" else _refusal(401, "UNAUTHORIZED", challenge)
        if granted and (known or action == "push"):
            return Verdict.ALLOWED
        if action != "pull":
            return _refusal(401, "DENIED", f'{challenge},error="insufficient_scope"')
        return _refusal(
            401 if self.hub else 403, "DENIED", f'{challenge},error="insufficient_scope"' if self.hub else None
        )

    def token(self, request: Request) -> Answer:
        """The token service: GET with Basic or nothing, POST with a refresh token (`spec/auth/oauth.md`)."""
        if request.method == "POST":
            return self._oauth(request)
        user = self._basic_user(request)
        if user is None and "Authorization" in request.headers:
            return _refusal(401, "UNAUTHORIZED")
        return self._grant(user, request.query.get("scope", []))

    def _oauth(self, request: Request) -> Answer:
        form = parse_qs(request.body.decode())
        user = self.identity_tokens.get(form.get("refresh_token", [""])[0])
        if user is None or form.get("grant_type") != ["refresh_token"]:
            return _refusal(401, "UNAUTHORIZED")
        return self._grant(user, form.get("scope", [""])[0].split(), "access_token")

    def _grant(self, user: str | None, scopes: list[str], name: str | None = None) -> Answer:
        wanted = {scope.split(":")[1] for scope in scopes if scope.startswith("repository:")}
        granted = frozenset(repository for repository in wanted if self._may_read(user, repository))
        asked = {(path, action) for path, action in _parse(scopes) if action != "pull"}
        grants = frozenset((path, action) for path, action in asked if self._may(user, path, action))
        if self.denies and (granted != wanted or grants != asked):
            return _refusal(403, "DENIED")
        secret = f"secret-token-{next(_NUMBERS)}"
        self.tokens[secret] = Token(user, granted, time.monotonic() + self.token_seconds, grants)
        body: dict[str, object] = {name or self.token_field: secret}
        if self.tell_expiry:
            body["expires_in"] = int(self.token_seconds)
        return Answer(200, CIMultiDict({"Content-Type": "application/json"}), json.dumps(body).encode())

    def reads(self, request: Request, name: str) -> bool:
        """Whether who sent `request` may read `name` too: what a mount comes from."""
        kind, _, secret = request.headers.get("Authorization", "").partition(" ")
        if self.scheme != "bearer":
            return self._may_read(self._basic_user(request), name)
        return kind.lower() == "bearer" and name in self.tokens[secret].repositories

    def _may(self, user: str | None, name: str | None, action: str) -> bool:
        if name is None or action == "pull":
            return self._may_read(user, name)
        if self.writers is None:
            return True
        return user is not None and any(fnmatch.fnmatchcase(name, p) for p in self.writers.get(user, []))

    def _may_read(self, user: str | None, name: str | None) -> bool:
        if name is None or not any(fnmatch.fnmatchcase(name, pattern) for pattern in self.private):
            return True
        return user is not None and any(fnmatch.fnmatchcase(name, p) for p in self.readers.get(user, ["*"]))

    def _basic_user(self, request: Request) -> str | None:
        kind, _, encoded = request.headers.get("Authorization", "").partition(" ")
        if kind.lower() != "basic":
            return None
        try:
            user, _, password = base64.b64decode(encoded).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return None
        return user if self.users.get(user) == password else None


def _action(request: Request) -> str:
    """What a token has to be good for; of a GET too where it is about an upload."""
    if request.method == "DELETE":
        return "delete"
    return "push" if request.method in ("POST", "PATCH", "PUT") or "/blobs/uploads/" in request.path else "pull"


def _scopes(request: Request, name: str, action: str) -> str:
    """What a challenge asks for, as docker's registry does: also for what a mount comes from."""
    origin = request.query.get("from", [""])[0]
    further = f" repository:{origin}:pull" if origin else ""
    return f"repository:{name}:{'pull,push' if action == 'push' else action}{further}"


def _parse(scopes: list[str]) -> set[tuple[str, str]]:
    """(repository, action) for each."""
    parsed = (scope.split(":") for scope in scopes if scope.startswith("repository:"))
    return {(path, action) for _, path, actions in parsed for action in actions.split(",")}


def _refusal(status: int, code: str, challenge: str | None = None) -> Answer:
    headers = {"Content-Type": "application/json"}
    if challenge:
        headers["WWW-Authenticate"] = challenge
    return Answer(status, CIMultiDict(headers), json.dumps({"errors": [{"code": code, "message": "refused"}]}).encode())

"""The private matrix (design.md §4; zot CVE-2024-39897): who gets bytes that only the mirror's credentials can read.

Four principals ask in five ways for one private image, in four states, under four names. `TABLE` says what each must
get; the state never matters. What one may not see is answered like a digest that nobody has: each such cell asks for
an unknown one too, and compares.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

import pytest

from tests.faults.support import FOREIGN_HOST, HUB, KIB, Client, begin, staged, until
from tests.support.fake_registry import Answer, Behaviour, FakeRegistry, Gate, Request
from tests.support.fake_registry.behaviours import hang, hang_after
from tests.support.fake_registry.content import FakeImage, random_bytes
from tests.support.mirror import Running, mirror_in_process


class Who(StrEnum):
    STRANGER = "stranger"
    LOOPBACK = "loopback"
    SOCKET = "socket"
    PROXIED = "loopback through a reverse proxy"


class How(StrEnum):
    GET = "GET blob"
    HEAD = "HEAD blob"
    RANGE = "Range of the blob"
    TAG = "manifest by tag"
    DIGEST = "manifest by digest"


class State(StrEnum):
    STORED = "stored"
    FLYING = "in flight"
    STAGED = "in staging"
    RESTARTED = "after restart"


class Name(StrEnum):
    OWN = "its own repository"
    SAME = "another repository of its registry"
    OTHER = "another registry"
    LIAR = "a lying upstream"


class Gets(StrEnum):
    PRIVATE = "the private content"
    UNKNOWN = "404, as for an unknown digest"
    LIES = "what that registry says of every digest, and never the private content"


YES, NO, LIE = Gets.PRIVATE, Gets.UNKNOWN, Gets.LIES

#: A row is (who, under which name), its columns are the ways of asking. A lying upstream's HEAD is its own affair;
#: its wrong bytes are not served to the end, its wrong manifests not at all.
TABLE: dict[tuple[Who, Name], dict[How, Gets]] = {
    # ------------------------------ GET blob ---- HEAD blob ---- Range ------- by tag ----- by digest ---
    (Who.STRANGER, Name.OWN): dict(zip(How, (NO, NO, NO, NO, NO), strict=True)),
    (Who.STRANGER, Name.SAME): dict(zip(How, (NO, NO, NO, NO, NO), strict=True)),
    (Who.STRANGER, Name.OTHER): dict(zip(How, (NO, NO, NO, NO, NO), strict=True)),
    (Who.STRANGER, Name.LIAR): dict(zip(How, (LIE, LIE, LIE, NO, NO), strict=True)),
    (Who.PROXIED, Name.OWN): dict(zip(How, (NO, NO, NO, NO, NO), strict=True)),
    (Who.PROXIED, Name.SAME): dict(zip(How, (NO, NO, NO, NO, NO), strict=True)),
    (Who.PROXIED, Name.OTHER): dict(zip(How, (NO, NO, NO, NO, NO), strict=True)),
    (Who.PROXIED, Name.LIAR): dict(zip(How, (LIE, LIE, LIE, NO, NO), strict=True)),
    (Who.LOOPBACK, Name.OWN): dict(zip(How, (YES, YES, YES, YES, YES), strict=True)),
    (Who.LOOPBACK, Name.SAME): dict(zip(How, (NO, NO, NO, NO, NO), strict=True)),
    (Who.LOOPBACK, Name.OTHER): dict(zip(How, (NO, NO, NO, NO, NO), strict=True)),
    (Who.LOOPBACK, Name.LIAR): dict(zip(How, (LIE, LIE, LIE, NO, NO), strict=True)),
    (Who.SOCKET, Name.OWN): dict(zip(How, (YES, YES, YES, YES, YES), strict=True)),
    (Who.SOCKET, Name.SAME): dict(zip(How, (NO, NO, NO, NO, NO), strict=True)),
    (Who.SOCKET, Name.OTHER): dict(zip(How, (NO, NO, NO, NO, NO), strict=True)),
    (Who.SOCKET, Name.LIAR): dict(zip(How, (LIE, LIE, LIE, NO, NO), strict=True)),
}

CELLS = list(itertools.product(Who, How, State, Name))

SIZE = 600 * KIB
SECRET = b"secret bytes of a private layer "
LAYER = SECRET * (SIZE // len(SECRET))
JUNK = random_bytes("junk", SIZE)
PATHS = {
    Name.OWN: ("library/secret", ""),
    Name.SAME: ("library/public", ""),
    Name.OTHER: ("x/x", "?ns=other.example"),
    Name.LIAR: ("x/x", "?ns=liar.example"),
}
HEADERS: dict[Who, dict[str, str]] = {
    Who.STRANGER: {"Host": FOREIGN_HOST},
    Who.PROXIED: {"X_Forwarded_For": "203.0.113.7"},
    Who.LOOPBACK: {},
    Who.SOCKET: {"Host": "mirror"},
}


@dataclass(frozen=True, slots=True)
class Said:
    """An answer, as far as two can be compared: without its date, and without the name of what was asked for."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass(slots=True)
class Scene:
    """One private image, held or half held; `gate` holds what is in flight."""

    mirror: Running
    hub: FakeRegistry
    image: FakeImage
    gate: Gate

    @property
    def layer(self) -> str:
        return self.image.layers[0][0]

    async def ask(self, who: Who, how: How, name: Name, *, control: bool) -> Said:
        """The cell's request; `control`: the same for what nobody has."""
        path, query = PATHS[name]
        hidden = {How.TAG: "held-tag", How.DIGEST: self.image.digest}.get(how, self.layer)
        unknown = "none-tag" if how is How.TAG else "sha256:" + "5" * 64
        wanted = unknown if control else hidden
        kind = "manifests" if how in (How.TAG, How.DIGEST) else "blobs"
        headers = HEADERS[who] | ({"Range": "bytes=1000-"} if how is How.RANGE else {})
        connection = await Client.connect(self.mirror, unix=who is Who.SOCKET)
        try:
            method = "HEAD" if how is How.HEAD else "GET"
            await connection.ask(f"/v2/{path}/{kind}/{wanted}{query}", method, **headers)
            self.gate_after_head(who, name)
            body = b"" if method == "HEAD" else await connection.rest()
        finally:
            await connection.close()
        heads = {key: value.replace(wanted, "…") for key, value in connection.headers.items() if key != "date"}
        text = body if connection.status in (200, 206) else body.replace(wanted.encode(), "…".encode())
        return Said(connection.status, heads, text)

    def gate_after_head(self, who: Who, name: Name) -> None:
        """The head of an answer is there although upstream still holds the rest: now it may go on."""
        if TABLE[who, name][How.GET] is YES:
            self.gate.release()


@asynccontextmanager
async def scene(how: How, state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    """Bring a private image into a state, by what loopback does under its own name."""
    monkeypatch.setattr("mirror.application.building.DRAIN_SECONDS", 0.05)
    gate = Gate()
    async with FakeRegistry() as hub, FakeRegistry() as other, FakeRegistry() as liar:
        hub.access.scheme, hub.access.private, hub.access.users = "bearer", ["library/secret"], {"me": "password"}
        image = hub.add_image("library/secret", "held-tag", layers=[LAYER])
        hub.add_image("library/public", "3")
        other.add_image("x/x", "3")
        liar.script("*", lies(image), times=None)
        registries: dict[str, dict[str, object] | str] = {
            HUB: {"url": hub.url, "username": "me", "password": "password"},
            "other.example": other.url,
            "liar.example": liar.url,
        }
        manifest = f"/v2/library/secret/manifests/{image.digest}"
        blob = f"/v2/library/secret/blobs/{image.layers[0][0]}"

        async def everything(mirror: Running) -> None:
            for path in ("/v2/library/secret/manifests/held-tag", manifest, blob):
                assert (await mirror.get(path)).status == 200
            await mirror.idle()

        async with mirror_in_process(tmp_path / "data", registries) as mirror:
            if state is State.STORED:
                await everything(mirror)
                yield Scene(mirror, hub, image, gate)
            elif state is State.RESTARTED:
                await everything(mirror)
            elif state is State.STAGED:
                for path in ("/v2/library/secret/manifests/held-tag", manifest):
                    assert (await mirror.get(path)).status == 200
                hub.script("GET */blobs/*", granted(hang_after(SIZE * 3 // 4, gate)), times=None)
                connection = await (await Client.connect(mirror)).ask(blob)
                await connection.read(SIZE // 2)
                await connection.close()
            elif how in (How.TAG, How.DIGEST):
                hub.script(f"GET */manifests/{image.digest}", granted(hang(gate)), times=None)
                first = begin(mirror.get("/v2/library/secret/manifests/held-tag" if how is How.TAG else manifest))
                await until(gate.reached.is_set)
                yield Scene(mirror, hub, image, gate)
                gate.release()
                assert (await first).status == 200
            else:
                hub.script("GET */blobs/*", granted(hang_after(SIZE // 2, gate)), times=None)
                connection = await (await Client.connect(mirror)).ask(blob)
                await connection.read(SIZE // 2 - 64 * KIB)
                yield Scene(mirror, hub, image, gate)
                gate.release()
                assert len(await connection.read(SIZE // 2)) == SIZE // 2
                await connection.close()
        if state in (State.STAGED, State.RESTARTED):
            gate.release()
            hub.unscript()
            assert len(staged(tmp_path / "data")) == (1 if state is State.STAGED else 0)
            async with mirror_in_process(tmp_path / "data", registries) as mirror:
                yield Scene(mirror, hub, image, gate)


def granted(behaviour: Behaviour) -> Behaviour:
    """`behaviour`, for answers that give something: a refusal is given at once, and does not use it up."""
    return lambda request, answer: behaviour(request, answer) if answer.status in (200, 206) else answer


def lies(image: FakeImage) -> Behaviour:
    """A registry that claims to have everything, and names the private image by every tag."""

    def behave(request: Request, answer: Answer) -> Answer:
        del answer
        wanted = request.path.rpartition("/")[2]
        if "/blobs/" in request.path:
            whole = Answer(body=JUNK)
            span = request.range(SIZE)
            if span is not None and span[0]:
                whole = replace(whole, status=206, body=JUNK[span[0] : span[1]])
                whole.headers["Content-Range"] = f"bytes {span[0]}-{span[1] - 1}/{SIZE}"
            whole.headers["Docker-Content-Digest"] = wanted
            return whole
        said = Answer(body=image.manifest.raw[:-1] + b" ")
        said.headers["Content-Type"] = image.manifest.media_type
        said.headers["Docker-Content-Digest"] = wanted if ":" in wanted else image.digest
        return said

    return behave


def with_credentials(hub: FakeRegistry) -> int:
    """How many requests showed what the mirror alone has."""
    mine = {secret for secret, token in hub.access.tokens.items() if token.user == "me"}
    return sum(request.headers.get("Authorization", "").rpartition(" ")[2] in mine for request in hub.requests)


@pytest.mark.parametrize(("who", "how", "state", "name"), CELLS)
async def test_cell(
    who: Who, how: How, state: State, name: Name, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Breaks if flights or staging are keyed by digest alone, if a held blob is served wherever it is asked for, if
    another registry's 200 counts, if a proof is written for the wrong source, or if a refusal tells that it is one."""
    expected = TABLE[who, name][how]
    async with scene(how, state, tmp_path, monkeypatch) as it:
        if expected is YES:
            await served(it, who, how, name)
            return
        asked = with_credentials(it.hub)
        said = await it.ask(who, how, name, control=False)
        control = await it.ask(who, how, name, control=True)
        assert (said.status, said.headers) == (control.status, control.headers)
        assert SECRET not in said.body
        if expected is NO:
            assert said.status == 404
            assert said.body == control.body
        else:
            assert said.status in (200, 206)
            start = 1000 if how is How.RANGE else 0
            assert JUNK[start:].startswith(said.body)
            assert how is How.RANGE or len(said.body) < SIZE  # a range from the middle is sent unverified
        if who in (Who.STRANGER, Who.PROXIED):
            assert with_credentials(it.hub) == asked
        # and what was refused has not been earned by asking
        again = await it.ask(who, how, name, control=False)
        assert (again.status, again.headers) == (said.status, said.headers)
        assert SECRET not in again.body


async def served(it: Scene, who: Who, how: How, name: Name) -> None:
    """He gets the private content, all of it."""
    if how in (How.TAG, How.DIGEST):
        asking = begin(it.ask(who, how, name, control=False))
        for _ in range(50):  # it joins what is in flight; were it later, it would be served all the same
            await asyncio.sleep(0)
        it.gate.release()
        said = await asking
        assert (said.status, said.body) == (200, it.image.manifest.raw)
        return
    said = await it.ask(who, how, name, control=False)
    if how is How.HEAD:
        assert (said.status, said.headers["content-length"], said.body) == (200, str(SIZE), b"")
    elif how is How.GET:
        assert (said.status, said.body == LAYER) == (200, True)
    else:
        assert (said.status, said.body == LAYER[1000:]) == (206, True)


def test_no_cell_is_missing() -> None:
    """Breaks if somebody takes a row, a column, a state or a name out of the tests."""
    assert set(TABLE) == set(itertools.product(Who, Name))
    assert all(set(row) == set(How) for row in TABLE.values())
    assert len(CELLS) == len(set(CELLS)) == 4 * 5 * 4 * 4
    (cells,) = (mark.args[1] for mark in test_cell.pytestmark)  # type: ignore[attr-defined]  # what pytest runs
    assert cells is CELLS

"""faults.md, "Bad input and bad actors": what hostile clients and upstreams try, as far as step 1 goes."""

import asyncio
import json
import os
import re
from pathlib import Path

import pytest

from mirror.server import http
from tests.faults.support import HUB, KIB, MIB, Client, begin, cached, hub, later, stored, stranger, until
from tests.support.fake_registry import Answer, FakeRegistry, Gate, Request
from tests.support.fake_registry.behaviours import both, hang, header, limited, status, wrong_bytes
from tests.support.fake_registry.content import digest_of, random_bytes
from tests.support.mirror import mirror_in_process

ZERO = "sha256:" + "0" * 64


async def test_one_registrys_content_never_comes_under_anothers_name(tmp_path: Path) -> None:
    """Breaks if any key lacks the registry (docker-registry-proxy's cache): same path, same tag, another image."""
    async with FakeRegistry() as one, FakeRegistry() as two:
        first = one.add_image("library/x", "1", seed="one")
        second = two.add_image("library/x", "1", seed="two")
        registries = {HUB: one.url, "two.example": two.url}
        async with mirror_in_process(tmp_path / "data", registries) as mirror:
            for _ in range(2):  # cold, then warm
                for path, image in (
                    ("/v2/library/x/manifests/1", first),
                    ("/v2/library/x/manifests/1?ns=two.example", second),
                    ("/v2/two.example/library/x/manifests/1", second),
                    ("/two.example/v2/library/x/manifests/1", second),
                ):
                    assert (await mirror.get(path)).body == image.manifest.raw, path
                by_host = await mirror.get("/v2/library/x/manifests/1", Host="two.example")
                assert by_host.body == second.manifest.raw
            assert (await mirror.get(f"/v2/library/x/manifests/{second.digest}")).status == 404
            await mirror.idle()


async def test_a_mention_in_a_manifest_proves_nothing(tmp_path: Path) -> None:
    """Breaks if what a manifest of one repository names is linked there: anyone can write one that names somebody's
    private layer, in a repository of his own on the same registry."""
    async with FakeRegistry() as registry:
        registry.access.scheme, registry.access.private, registry.access.users = "bearer", ["me/secret"], {"me": "pw"}
        image = registry.add_image("me/secret", "1", layers=[random_bytes("mention", 300 * KIB)])
        layer = image.layers[0]
        evil = registry.add_image("evil/x", None)
        value = json.loads(evil.manifest.raw)
        value["layers"] = json.loads(image.manifest.raw)["layers"]
        registry.add_manifest("evil/x", value, tag="1")
        registry.add_index("evil/x", "index", [image])
        section = {"url": registry.url, "username": "me", "password": "pw"}
        async with mirror_in_process(tmp_path / "data", {HUB: section}) as mirror:
            for path in ("manifests/1", f"blobs/{layer[0]}"):
                assert (await mirror.get(f"/v2/me/secret/{path}")).status == 200
            await mirror.idle()
            for tag in ("1", "index"):
                assert (await stranger(mirror, f"/v2/evil/x/manifests/{tag}")).status == 200
            for path in (f"blobs/{layer[0]}", f"manifests/{image.digest}", f"blobs/{image.digest}"):
                for method in ("GET", "HEAD"):
                    assert (await stranger(mirror, f"/v2/evil/x/{path}", method)).status == 404, path
            assert (await mirror.get(f"/v2/evil/x/blobs/{layer[0]}")).status == 404  # nor for those who may read it


async def test_what_is_public_is_shared_without_a_download(tmp_path: Path) -> None:
    """The other side: breaks if a public blob is downloaded once per repository."""
    async with FakeRegistry() as one, FakeRegistry() as two:
        layer = random_bytes("public", 300 * KIB)
        digest = one.add_blob("library/x", layer)
        async with mirror_in_process(tmp_path / "data", {HUB: one.url, "two.example": two.url}) as mirror:
            await stranger(mirror, f"/v2/library/x/blobs/{digest}")
            await mirror.idle()
            for path in (f"/v2/library/y/blobs/{digest}", f"/v2/x/x/blobs/{digest}?ns=two.example"):
                reply = await stranger(mirror, path)
                assert (cached(reply), reply.body == layer) == ("hit", True)
            assert (one.count("GET */blobs/*"), two.count()) == (1, 0)


async def test_a_strangers_miss_stops_nobody(tmp_path: Path) -> None:
    """Breaks if a "no" is remembered by digest or tag alone: a stranger asks first, without credentials, and is
    refused; the owner, who asks with them, is not."""
    async with FakeRegistry() as registry:
        registry.access.scheme, registry.access.private, registry.access.users = "bearer", ["me/*"], {"me": "pw"}
        image = registry.add_image("me/secret", "1")
        other = registry.add_image("me/other", "1", seed="other")
        section = {"url": registry.url, "username": "me", "password": "pw"}
        async with mirror_in_process(tmp_path / "data", {HUB: section}) as mirror:
            paths = ("manifests/1", f"manifests/{image.digest}", f"blobs/{image.layers[0][0]}", "tags/list")
            for path in paths:
                for name in ("me/secret", "me/none"):
                    assert (await stranger(mirror, f"/v2/{name}/{path}")).status == 404
            for path in paths:
                assert (await mirror.get(f"/v2/me/secret/{path}")).status == 200
            assert (await mirror.get(f"/v2/me/other/manifests/{other.digest}")).status == 200


async def test_a_blobs_no_is_not_a_manifests_no(tmp_path: Path) -> None:
    """Breaks if one "no" answers two questions: containerd asks for a digest as a blob first, then as a manifest."""
    async with hub(tmp_path) as (registry, mirror):
        image = registry.add_image("library/x", "1")
        assert (await mirror.get(f"/v2/library/x/blobs/{image.digest}", "HEAD")).status == 404
        assert (await mirror.get(f"/v2/library/x/manifests/{image.digest}")).body == image.manifest.raw


async def test_a_private_manifest_tells_no_sizes_to_others(tmp_path: Path) -> None:
    """Breaks if a size that only a private manifest gives completes the answer of a registry that says none."""
    async with FakeRegistry() as hub_, FakeRegistry() as liar:
        hub_.access.scheme, hub_.access.private, hub_.access.users = "bearer", ["me/*"], {"me": "pw"}
        image = hub_.add_image("me/secret", "1", layers=[random_bytes("size", 300_000)])
        liar.script("*", lambda _request, _answer: Answer(200, body=b"junk", length=-1), times=None)
        registries = {HUB: {"url": hub_.url, "username": "me", "password": "pw"}, "liar.example": {"url": liar.url}}
        async with mirror_in_process(tmp_path / "data", registries) as mirror:
            assert (await mirror.get("/v2/me/secret/manifests/1")).status == 200
            for method in ("HEAD", "GET"):
                known, unknown = [
                    await stranger(mirror, f"/v2/x/x/blobs/{digest}?ns=liar.example", method)
                    for digest in (image.layers[0][0], "sha256:" + "5" * 64)
                ]
                assert known.status == unknown.status
                assert known.headers.get("Content-Length") == unknown.headers.get("Content-Length")


async def test_names_and_lists_tell_nothing_to_strangers(tmp_path: Path) -> None:
    """Breaks if status, metrics, tag lists, referrers or error texts name what the asker may not read."""
    async with FakeRegistry() as registry:
        registry.access.scheme, registry.access.private, registry.access.users = "bearer", ["me/*"], {"me": "pw"}
        image = registry.add_image("me/secret", "nobody-knows")
        subject = {"subject": image.manifest.descriptor, "artifactType": "application/signature"}
        signature = registry.add_image("me/secret", "signature", seed="signature", extra=subject)
        section = {"url": registry.url, "username": "me", "password": "pw"}
        async with mirror_in_process(tmp_path / "data", {HUB: section}) as mirror:
            for path in ("manifests/nobody-knows", "manifests/signature", "tags/list"):
                assert (await mirror.get(f"/v2/me/secret/{path}")).status == 200
            listed = await mirror.get(f"/v2/me/secret/referrers/{image.digest}")
            assert (listed.status, signature.digest in listed.body.decode()) == (200, True)
            told = []
            for path in ("tags/list", f"referrers/{image.digest}", "manifests/nobody-knows", "manifests/none"):
                reply = await stranger(mirror, f"/v2/me/secret/{path}")
                told.append(reply.body.decode().replace(f'"{path}', ""))
            refused = await stranger(mirror, "/api/v1/status")
            assert (refused.status, refused.code) == (403, "DENIED")
            metrics = (await stranger(mirror, "/metrics")).body.decode()
            assert "me/secret" not in metrics
            assert signature.digest not in "".join(told)
            assert "nobody-knows" not in told[0]


@pytest.mark.parametrize(
    "path",
    [
        "/v2/library/x/blobs/sha256:../../../../etc/passwd",
        "/v2/library/x/blobs/sha256:%2e%2e%2f%2e%2e%2fmirror.db",
        "/v2/library/x/blobs/sha256:" + "A" * 64,
        "/v2/library/x/blobs/sha256:" + "a" * 63,
        "/v2/library/x/blobs/md5:" + "a" * 32,
        "/v2/library/x/manifests/..%2f..%2fmirror.db",
        "/v2/library/x/manifests/../../../mirror.db",
        "/v2/../../etc/passwd/manifests/1",
        "/v2/library/%252e%252e/manifests/1",
        "/v2/library/x/referrers/sha256:..",
        "/v2/library/x/blobs/uploads/../../../../mirror.db",
        "/../mirror.db",
    ],
)
async def test_no_path_leads_out_of_the_store(path: str, tmp_path: Path) -> None:
    """Breaks if a digest, a tag or an id reaches the file system, or upstream, as it came (CVE-2024-37032,
    CVE-2024-4956)."""
    async with hub(tmp_path) as (registry, mirror):
        connection = await Client.connect(mirror)
        await connection.ask(path)  # as raw bytes: a client library would tidy the path up
        body = await connection.rest()
        await connection.close()
        assert connection.status in (400, 404)
        assert json.loads(body)["errors"][0]["code"]
        assert registry.count("*/blobs/*") == registry.count("*passwd*") == 0


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"])
async def test_nothing_can_be_written(method: str, tmp_path: Path) -> None:
    """Breaks if a verb without a row in the table of rights does anything, if a stranger may write, or if anybody may
    under a public name; a simple cross-site POST uploads nothing."""
    async with hub(tmp_path) as (registry, mirror):
        for path in ("manifests/1", f"blobs/{ZERO}", "blobs/uploads/", "blobs/uploads/?mount=" + ZERO, "tags/list"):
            for host in ("127.0.0.1", "mirror.example"):
                reply = await mirror.get(f"/v2/library/x/{path}", method, Host=host)
                assert reply.status in (400, 403, 404, 405), path
            cross_site = await mirror.get(f"/v2/team/app/{path}", method, Origin="http://evil.example")
            assert cross_site.status in (400, 403, 404, 405), path
        assert registry.count() == 0
        assert not stored(tmp_path / "data")


async def test_what_upstream_says_is_not_relayed(tmp_path: Path) -> None:
    """Breaks if headers or error bodies of upstream's go on to clients: cookies, cross-site scripts, a challenge that
    gets the user's Docker Hub password (moby#42022)."""
    async with hub(tmp_path) as (registry, mirror):
        image = registry.add_image("library/x", "1", layers=[300 * KIB])
        evil = {
            "Set-Cookie": "a=b",
            "WWW-Authenticate": 'Basic realm="evil"',
            "X-Registry-Supports-Signatures": "1",
            "Location": "http://evil.example/",
            "Access-Control-Allow-Origin": "*",
            "Cache-Control": "max-age=31536000",
        }
        registry.script("*", both(*(header(name, value) for name, value in evil.items())), times=None)
        for path in ("manifests/1", f"manifests/{image.digest}", f"blobs/{image.layers[0][0]}", "tags/list"):
            for method in ("GET", "HEAD"):
                reply = await mirror.get(f"/v2/library/x/{path}", method)
                assert reply.status in (200, 405)
                assert not {name.lower() for name in reply.headers} & {name.lower() for name in evil}
        script = b'{"errors":[{"code":"X","message":"<script>\x1b[31mevil\xe2\x80\xae"}]}'
        registry.unscript()
        registry.script("*", status(403, headers=evil, body=script), times=None)
        for path in ("manifests/2", f"blobs/{ZERO}"):
            reply = await mirror.get(f"/v2/library/x/{path}")
            assert reply.status == 404
            assert b"script" not in reply.body
            assert b"evil" not in reply.body
            assert reply.headers["Content-Type"] == "application/json"
            assert reply.headers.get("X-Content-Type-Options", "nosniff") == "nosniff"


async def test_a_manifest_bomb_is_cut(tmp_path: Path) -> None:
    """Breaks if bodies are read without a cap (CVE-2017-11468): more than 4 MiB is no manifest, whatever its length
    says, and so is JSON that is too deep."""
    async with hub(tmp_path) as (registry, mirror):
        image = registry.add_image("library/x", "1")
        for body in (b" " * (5 * MIB), b"[" * MIB, b'{"a":' * 200_000 + b"1" + b"}" * 200_000):
            for lengthless in (header("X", "y"), lambda _, answer: _chunked(answer)):
                registry.script("GET */manifests/*", both(wrong_bytes(lambda _, b=body: b), lengthless))  # type: ignore[misc]
                registry.script("HEAD */manifests/*", status(405))
                assert (await mirror.get("/v2/library/x/manifests/1")).status == 404
                registry.unscript()
        later(mirror, 60)
        assert (await mirror.get("/v2/library/x/manifests/1")).body == image.manifest.raw


def _chunked(answer: Answer) -> Answer:
    answer.chunked = True
    return answer


async def test_tags_without_end_come_to_an_end(tmp_path: Path) -> None:
    """Breaks if `Link` is followed for ever, or `n` is taken as it comes (CVE-2023-2253)."""
    async with hub(tmp_path) as (registry, mirror):

        def endless(request: Request, answer: Answer) -> Answer:
            page = int(request.query.get("page", ["0"])[0])
            answer.headers["Link"] = f'</v2/library/x/tags/list?page={page + 1}>; rel="next"'
            answer.body = json.dumps({"name": "library/x", "tags": [f"t{page}"]}).encode()
            return answer

        registry.add_image("library/x", "1")
        registry.script("*/tags/list*", endless, times=None)
        reply = await mirror.get("/v2/library/x/tags/list?n=99999999999")
        assert reply.status in (200, 404, 400)
        assert registry.count("*/tags/list*") <= 1000


async def test_a_429_of_one_source_stops_no_other(tmp_path: Path) -> None:
    """Breaks if limits and breakers are by digest, or for all registries together."""
    async with FakeRegistry() as one, FakeRegistry() as two:
        first, second = one.add_image("library/x", "1"), two.add_image("library/x", "1", seed="two")
        async with mirror_in_process(tmp_path / "data", {HUB: one.url, "two.example": two.url}) as mirror:
            one.script("*", limited("600"), times=None)
            assert (await mirror.get("/v2/library/x/manifests/1")).status == 404
            assert (await mirror.get("/v2/library/x/manifests/1?ns=two.example")).body == second.manifest.raw
            assert first.digest != second.digest


async def test_requests_smuggled_in_are_refused(tmp_path: Path) -> None:
    """Breaks if a message that two parsers read in two ways is answered, or leaves a second request behind."""
    smuggled = b"GET /api/v1/status HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    messages = [
        b"GET /v2/ HTTP/1.1\r\nHost: mirror.example\r\nContent-Length: 10\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET /v2/ HTTP/1.1\r\nHost: mirror.example\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"GET /v2/ HTTP/1.1\r\nHost: mirror.example\r\nX: a\rb\r\n\r\n",
        b"GET /v2/ HTTP/1.1\r\nHost: mirror.example\r\nX : a\r\n\r\n",
        b"GET /v2/ HTTP/1.1\r\nHost: mirror.example\r\nTransfer-Encoding: xchunked\r\n\r\n",
    ]
    async with hub(tmp_path) as (_, mirror):
        for message in messages:
            connection = await Client.connect(mirror)
            connection.writer.write(message + smuggled)
            connection.writer.write_eof()
            async with asyncio.timeout(20):
                answer = await connection.reader.read(-1)
            await connection.close()
            assert answer.startswith(b"HTTP/1.1 400") or answer == b"", message
            assert b"uptime" not in answer


async def test_hostile_headers_make_nobody_trusted(tmp_path: Path) -> None:
    """Breaks if two `Host` headers, or an absolute target, make a stranger of a proxy's into loopback."""
    async with hub(tmp_path) as (_, mirror):
        for lines in (
            "GET /api/v1/status HTTP/1.1\r\nHost: mirror.example",
            "GET /api/v1/status HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Forwarded-For: 203.0.113.1",
            "GET /api/v1/status HTTP/1.1\r\nHost: 127.0.0.1\r\nx-forwarded-FOR: 203.0.113.1",
            "GET /api/v1/status HTTP/1.1\r\nHost: 127.0.0.1\r\nForwarded: for=203.0.113.1",
            "GET /api/v1/status HTTP/1.1\r\nHost: 127.0.0.1\r\nVia: 1.1 proxy",
            "GET /api/v1/status HTTP/1.1\r\nHost: 127.0.0.1\r\nOrigin: http://evil.example",
            "GET /api/v1/status HTTP/1.1\r\nHost: 127.0.0.1\r\nSec-Fetch-Site: cross-site",
            "GET /api/v1/status HTTP/1.1\r\nHost: 127.0.0.1.evil.example",
            "GET /api/v1/status HTTP/1.1\r\nHost: localhost.evil.example",
            "GET /api/v1/status HTTP/1.1\r\nHost: evil.example:127.0.0.1",
            "GET /api/v1/status HTTP/1.0",
        ):
            connection = await Client.connect(mirror)
            connection.writer.write((lines + "\r\n\r\n").encode())
            async with asyncio.timeout(20):
                head = await connection.reader.readuntil(b"\r\n\r\n")
            await connection.close()
            assert int(head.split()[1]) in (400, 403), lines


async def test_clients_that_say_nothing_are_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Breaks if a connection without a request is held for ever, or one that sends its head drop by drop."""
    monkeypatch.setattr(http, "FIRST_REQUEST_WITHIN", 0.1)
    async with hub(tmp_path) as (_, mirror):
        before = len(os.listdir("/proc/self/fd"))
        silent = [await Client.connect(mirror) for _ in range(20)]
        for number, connection in enumerate(silent):
            if number % 2:
                connection.writer.write(b"GET /v2/ HTTP/1.1\r\nHost: ")
        async with asyncio.timeout(20):
            for connection in silent:
                with_error = await asyncio.gather(connection.reader.read(-1), return_exceptions=True)
                assert b" 200 " not in (with_error[0] if isinstance(with_error[0], bytes) else b"")
                await connection.close()
        await until(lambda: len(os.listdir("/proc/self/fd")) < before + 10)  # of 40; a thread may have opened a file


async def test_tls_on_the_http_port_is_no_traceback(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """podman tries https first. Breaks if that fills the log."""
    async with hub(tmp_path) as (_, mirror):
        connection = await Client.connect(mirror)
        connection.writer.write(bytes.fromhex("160301020001000001fc0303") + os.urandom(500))
        async with asyncio.timeout(20):
            answer = await connection.reader.read(-1)
        await connection.close()
        assert b" 200 " not in answer
        assert not [record for record in caplog.records if record.exc_info or record.levelname == "ERROR"]


async def test_nobody_injects_into_the_log(tmp_path: Path) -> None:
    """Breaks if a path, a name or an upstream's words reach a terminal or a log line unescaped."""
    log = tmp_path / "access.log"
    async with hub(tmp_path, access_log=str(log)) as (_, mirror):
        for path in (
            "/v2/library/x/manifests/%0a%1b[31mEVIL",
            "/v2/library/x/manifests/a\x1b[31mEVIL",
            "/v2/library/x/manifests/\u202eEVIL",
        ):
            connection = await Client.connect(mirror)
            connection.writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
            async with asyncio.timeout(20):
                await connection.reader.readuntil(b"\r\n\r\n")
            await connection.close()
        await mirror.get("/v2/")
    text = log.read_text()
    assert "/v2/" in text
    assert re.fullmatch(r"[\x20-\x7e\n]*", text)
    assert all(line.startswith("20") for line in text.splitlines())


async def test_no_secret_is_in_any_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Breaks if a password, a token or a signed URL is logged, whatever goes wrong."""
    caplog.set_level("DEBUG")
    async with FakeRegistry() as registry, FakeRegistry() as store:
        registry.access.scheme, registry.access.private = "bearer", ["*"]
        registry.access.users = {"me": "pa55word"}
        image = registry.add_image("library/x", "1", layers=[300 * KIB])
        layer = image.layers[0][0]
        registry.locate = lambda _: f"{store.url}/signed?X-Amz-Signature=s1gned"
        section = {"url": registry.url, "username": "me", "password": "pa55word"}
        async with mirror_in_process(tmp_path / "data", {HUB: section}) as mirror:
            told = [await mirror.get("/v2/library/x/manifests/1"), await mirror.get(f"/v2/library/x/blobs/{layer}")]
            await store.stop()
            told.append(await mirror.get(f"/v2/library/x/blobs/{layer}"))
            registry.access.users["me"] = "changed"
            registry.access.tokens.clear()
            later(mirror, 3600)
            told += [await mirror.get("/v2/library/x/manifests/1"), await mirror.get("/api/v1/status")]
            await mirror.app.announce()
            await mirror.idle()
        said = caplog.text + "".join(f"{dict(reply.headers)}{reply.body!r}" for reply in told)
        assert "s1gned" not in said
        assert "pa55word" not in said
        assert not re.search(r"secret-token-\d", said)
        assert digest_of(image.manifest.raw) in said


async def test_a_slow_upstream_for_one_stops_nobody_else(tmp_path: Path) -> None:
    """Breaks if requests share a lock or a slot that a hanging one keeps."""
    async with hub(tmp_path) as (registry, mirror):
        image = registry.add_image("library/x", "1", layers=[1000])
        gate = Gate()
        registry.script("*/library/slow/*", hang(gate), times=None)
        slow = [begin(mirror.get(f"/v2/library/slow/manifests/{number}")) for number in range(40)]
        slow += [begin(mirror.get(f"/v2/library/slow/blobs/{digest_of(bytes([n]))}")) for n in range(40)]
        await until(lambda: registry.count("*/library/slow/*") >= 80)
        assert (await mirror.get("/v2/library/x/manifests/1")).body == image.manifest.raw
        assert (await mirror.get(f"/v2/library/x/blobs/{image.layers[0][0]}")).status == 200
        gate.release()
        assert {reply.status for reply in await asyncio.gather(*slow)} == {404}

"""Where our credentials come from, and when they are asked for anew."""

import json
import sys
from pathlib import Path

import pytest

from mirror.clock import Clock
from mirror.config.model import RegistrySettings
from mirror.errors import UpstreamCredentialsRefused
from mirror.upstream.credentials import Credential, DockerCredentials, SettingsCredentials
from mirror.upstream.docker_config import DockerConfig
from tests.support.fake_registry import FakeRegistry
from tests.support.fake_registry.content import FakeImage
from tests.upstream.support import NAME, PASSWORD, REPOSITORY, TAG, USER, no_secret_in, source, upstreams

URL = "https://registry.test"


def from_settings(clock: Clock | None = None, **values: object) -> SettingsCredentials:
    settings = RegistrySettings.model_validate({"url": URL, "username": USER, **values})
    return SettingsCredentials(NAME, settings, clock or Clock())


async def test_from_the_settings() -> None:
    made = from_settings(password=PASSWORD)
    credential = await made.get("anything")
    assert credential == Credential(USER, PASSWORD)
    assert made.configured
    assert await made.renew("anything", credential) is None
    no_secret_in(credential, made)
    assert credential.basic == "Basic YWxpY2U6cGFzcy13b3JkLTc="


async def test_a_password_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    """One newline at its end is not part of the password. Fails if a new password needs a restart."""
    clock, file = Clock(), tmp_path / "password"
    file.write_text("first\n")
    made = from_settings(clock, password_file=file)
    first = await made.get("x")
    assert first is not None
    assert first.secret == "first"
    assert await made.renew("x", first) is None
    file.write_text("second word")
    assert (await made.get("x")) == first  # looked at every two seconds
    clock.shift += 3
    second = await made.get("x")
    assert second is not None
    assert second.secret == "second word"
    file.write_text("third")
    renewed = await made.renew("x", second)
    assert renewed is not None
    assert renewed.secret == "third"


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
async def test_a_password_file_that_cannot_be_read_is_an_outage_of_ours(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "password"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UpstreamCredentialsRefused, match="password_file"):
        await from_settings(password_file=file).get("x")


async def test_dockers_logins_are_for_their_host_only(tmp_path: Path) -> None:
    """Fails if a login for Docker Hub goes to whatever is configured under the name docker.io."""
    hub = {"username": USER, "password": PASSWORD}
    (tmp_path / "config.json").write_text(json.dumps({"auths": {"docker.io": hub}}))
    configuration = DockerConfig({"DOCKER_CONFIG": str(tmp_path)}, Clock())
    await configuration.load()
    elsewhere = DockerCredentials("docker.io", frozenset({"registry.test"}), configuration)
    assert not elsewhere.configured
    assert await elsewhere.get("registry.test") is None
    assert await elsewhere.get("registry-1.docker.io") is None
    there = DockerCredentials("docker.io", frozenset({"registry-1.docker.io"}), configuration)
    assert there.configured
    assert await there.get("registry-1.docker.io") == Credential(USER, PASSWORD, source=f"{tmp_path}/config.json")


async def test_a_changed_password_file_ends_a_refusal(registry: FakeRegistry, image: FakeImage, tmp_path: Path) -> None:
    """At once, in the same request. Fails if the file is only looked at when the minute of rest is over."""
    registry.access.scheme = "bearer"
    registry.access.private = ["team/*"]
    registry.access.users[USER] = PASSWORD
    file = tmp_path / "password"
    file.write_text("wrong")
    async with source(registry.url, anonymous=False, username=USER, password_file=file) as upstream:
        with pytest.raises(UpstreamCredentialsRefused):
            await upstream.manifest(TAG)
        file.write_text(PASSWORD)
        with pytest.raises(UpstreamCredentialsRefused):
            await upstream.manifest(TAG)  # looked at every two seconds
    file.write_text("wrong")
    clock = Clock()
    async with source(registry.url, anonymous=False, username=USER, password_file=file, clock=clock) as upstream:
        with pytest.raises(UpstreamCredentialsRefused):
            await upstream.manifest(TAG)
        file.write_text(PASSWORD)
        clock.shift += 3
        assert (await upstream.manifest(TAG)).raw == image.manifest.raw
        assert upstream.state().up


async def test_an_expired_ecr_token_is_a_403_and_the_helper_is_asked_once_more(
    registry: FakeRegistry, image: FakeImage, tmp_path: Path
) -> None:
    """Fails if the 403 passes for the registry's word, or the helper is asked in a loop."""
    clock, host = Clock(), registry.url.removeprefix("http://")
    program = tmp_path / "docker-credential-ecr"
    calls = tmp_path / "calls"
    program.write_text(
        f"#!{sys.executable}\nimport json\nopen({str(calls)!r}, 'a').write('x')\n"
        f"n = len(open({str(calls)!r}).read())\nprint(json.dumps({{'Username': 'AWS', 'Secret': f'secret-{{n}}'}}))\n"
    )
    program.chmod(0o755)
    (tmp_path / "config.json").write_text(json.dumps({"credHelpers": {host: "ecr"}}))
    registry.access.scheme, registry.access.expired = "basic", 403
    registry.access.users["AWS"] = "secret-1"
    environment = {"DOCKER_CONFIG": str(tmp_path), "PATH": str(tmp_path)}
    async with upstreams(url=registry.url, environment=environment, clock=clock) as made:
        assert made.has_credentials(NAME)
        upstream = made.source(NAME, anonymous=False)
        await upstream.manifest(TAG)
        registry.access.users["AWS"] = "secret-2"  # twelve hours later
        clock.shift += 600
        assert (await upstream.manifest(TAG)).raw == image.manifest.raw
        assert calls.read_text() == "xx"
        registry.access.users["AWS"] = "never"
        clock.shift += 600
        registry.forget()
        with pytest.raises(UpstreamCredentialsRefused):
            await upstream.manifest(TAG)
        assert calls.read_text() == "xxx"
        assert registry.count(f"GET /v2/{REPOSITORY.path}/*") == 2


async def test_an_identity_token_is_no_password(registry: FakeRegistry, image: FakeImage, tmp_path: Path) -> None:
    """Fails if a refresh token is shown as a password to whom asks for one."""
    registry.access.scheme = "basic"
    config = {"auths": {registry.url.removeprefix("http://"): {"identitytoken": PASSWORD}}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    async with source(registry.url, anonymous=False, environment={"DOCKER_CONFIG": str(tmp_path)}) as upstream:
        with pytest.raises(UpstreamCredentialsRefused, match="identity token"):
            await upstream.manifest(TAG)
    assert not any("Authorization" in request.headers for request in registry.requests)

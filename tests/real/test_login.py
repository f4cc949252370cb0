"""Real clients log in at the address for it, and get what their user may have; mirrors go on without a user."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import bcrypt
import pytest

from tests.support.clients import Dockerd, Podman, Skopeo
from tests.support.fake_registry import FakeRegistry
from tests.support.fake_registry.tls import Authority
from tests.support.images import Image, Layout, busybox_image
from tests.support.mirror import MirrorProcess
from tests.support.processes import CommandError, free_port

pytestmark = pytest.mark.real

Mirrors = Callable[..., MirrorProcess]
RULE = {"users": ["ci"], "repositories": ["docker.io/team/**"], "allow": ["pull"]}


@pytest.fixture
def hub(layout: Layout) -> Iterator[tuple[FakeRegistry, Image, Image]]:
    """docker.io with library/open and, for the mirror's own login only, team/secret."""
    public, secret = busybox_image(layout, label="open"), busybox_image(layout, label="secret")
    with FakeRegistry().in_thread() as registry:
        registry.add_layout_image("library/open", "1", public)
        registry.add_layout_image("team/secret", "1", secret)
        registry.access.scheme, registry.access.users, registry.access.private = "bearer", {"me": "pw"}, ["team/*"]
        yield registry, public, secret


@pytest.fixture
def served(hub: tuple[FakeRegistry, Image, Image], mirror: Mirrors, tmp_path: Path) -> Callable[..., MirrorProcess]:
    """A mirror of it that asks everybody for a user but for what is public, this machine too; `login` is its address to
    log in at. Its users: ci, who may pull team/*, and plain."""

    def make(login: str, **environment: str) -> MirrorProcess:
        file = tmp_path / "htpasswd"
        file.write_text("".join(f"{name}:{_hashed(f'p-{name}')}\n" for name in ("ci", "plain")))
        access = {"htpasswd": str(file), "loopback": "none", "rules": [RULE]}
        section = {"url": hub[0].url, "username": "me", "password": "pw"}
        more = {"MIRROR_ACCESS": json.dumps(access), "MIRROR_LISTEN_LOGIN": login, **environment}
        return mirror({"docker.io": section}, environment=more)

    return make


def _hashed(password: str) -> str:
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(10)).decode()


@contextmanager
def refused(*words: str) -> Iterator[None]:
    with pytest.raises(CommandError, match="|".join(words)):
        yield


@pytest.mark.parametrize("https", [False, True])
def test_docker_logs_in_and_pulls_what_its_user_may(
    hub: tuple[FakeRegistry, Image, Image],
    served: Callable[..., MirrorProcess],
    dockerd: Callable[..., Dockerd],
    tmp_path: Path,
    https: bool,
) -> None:
    login = f"127.0.0.1:{free_port()}"
    files = dict(zip(("MIRROR_TLS_CERT", "MIRROR_TLS_KEY"), map(str, Authority(tmp_path).files()), strict=True))
    mirror = served(login, **files if https else {})
    client = dockerd(mirror.authority)  # on 127.0.0.0/8 it takes any certificate
    secret = f"{login}/team/secret:1"

    with refused("unauthorized", "no basic auth credentials"):
        client.pull(secret)
    with refused("unauthorized", "401"):
        client.login(login, "ci", "wrong")
    assert "Login Succeeded" in client.login(login, "plain", "p-plain")
    with refused("not found", "manifest unknown"):
        client.pull(secret)
    assert "Login Succeeded" in client.login(login, "ci", "p-ci")
    client.pull(secret)
    assert client.image_id(secret) == hub[2].config.digest
    client.pull(f"{login}/library/open:1")
    if not https:
        client.pull("open:1")  # through `registry-mirrors`, without a user
        assert client.image_id("open:1") == hub[1].config.digest
    client.command("logout", login)
    client.rmi(secret)
    with refused("unauthorized", "no basic auth credentials"):
        client.pull(secret)


@pytest.mark.parametrize("kind", ["podman", "skopeo"])
def test_podman_and_skopeo(
    request: pytest.FixtureRequest,
    hub: tuple[FakeRegistry, Image, Image],
    served: Callable[..., MirrorProcess],
    kind: str,
) -> None:
    login = f"127.0.0.1:{free_port()}"
    served(login)
    client: Podman | Skopeo = request.getfixturevalue(kind)(login)
    secret = f"{login}/team/secret:1"
    with refused("unauthorized", "authentication required", "invalid username/password"):
        client.pull(secret)
    with refused("invalid username/password", "unauthorized"):
        client.login(login, "ci", "wrong")
    client.login(login, "ci", "p-ci")
    found = client.pull(secret)
    if isinstance(client, Podman):
        assert client.image_id(secret) == hub[2].config.digest
    else:
        assert hub[2].config.digest in (Path(found) / "manifest.json").read_text()


def test_docker_logs_in_and_pushes(
    hub: tuple[FakeRegistry, Image, Image],
    mirror: Mirrors,
    dockerd: Callable[..., Dockerd],
    podman: Callable[..., Podman],
    tmp_path: Path,
) -> None:
    """At the address to log in at, with a rule that says so; nobody else, and nowhere else."""
    file = tmp_path / "htpasswd"
    file.write_text("".join(f"{name}:{_hashed(f'p-{name}')}\n" for name in ("ci", "plain")))
    rule = {"users": ["ci"], "repositories": ["team/*"], "allow": ["pull", "push"]}
    access = {"htpasswd": str(file), "loopback": "none", "rules": [rule]}
    login = f"127.0.0.1:{free_port()}"
    environment = {"MIRROR_ACCESS": json.dumps(access), "MIRROR_LISTEN_LOGIN": login}
    served = mirror({"docker.io": {"url": hub[0].url}}, environment=environment)
    client = dockerd(served.authority)
    client.pull(f"{served.authority}/docker.io/library/open:1")
    name = f"{login}/team/app:1"
    client.tag(f"{served.authority}/docker.io/library/open:1", name)
    with refused("unauthorized", "no basic auth credentials"):
        client.push(name)
    client.login(login, "plain", "p-plain")
    with refused("denied", "unauthorized"):
        client.push(name)
    client.login(login, "ci", "p-ci")
    client.push(name)
    client.tag(name, f"{login}/elsewhere/app:1")
    with refused("denied"):
        client.push(f"{login}/elsewhere/app:1")
    other = podman(login)
    other.login(login, "ci", "p-ci")
    other.pull(name)
    assert other.image_id(name) == hub[1].config.digest
    hub[0].forget()
    client.rmi(name)
    client.pull(name)
    assert hub[0].count("*/team/app/*") == 0

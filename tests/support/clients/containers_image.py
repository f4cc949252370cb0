"""Clients built on containers/image: podman, skopeo and buildah."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support.clients.client import Client
from tests.support.netns import Namespace
from tests.support.packages import program

_ROOTS_FOLDER = "/var/lib/containers"


class ContainersImage(Client):
    """What podman, skopeo and buildah share: registries.conf, policy, credentials.

    `mirrors`: registry → where its mirror is ("docker.io" → "127.0.0.1:5000/docker.io"). `insecure`: host:port that
    may speak plain http; mirrors may anyway.
    """

    def __init__(
        self,
        name: str,
        mirrors: Mapping[str, str] | None = None,
        *,
        insecure: Sequence[str] = (),
        inside: Namespace | None = None,
    ) -> None:
        super().__init__(name, inside)
        self.registries = self.folder / "registries.conf"
        self.registries.write_text(_registries_conf(mirrors or {}, insecure))
        self.policy = self.folder / "policy.json"
        self.policy.write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
        (self.folder / "auth.json").write_text("{}")  # a missing one is an error to podman
        (self.folder / "containers.conf").write_text(
            '[containers]\ncgroups = "no-conmon"\n'
            '[engine]\nlock_type = "file"\nevents_logger = "none"\ncgroup_manager = "cgroupfs"\n'
            f'image_copy_tmp_dir = "{self.folder}/tmp"\n'
            f'[network]\nnetwork_config_dir = "{self.folder}/net"\n'
        )
        self._environment |= {
            "CONTAINERS_REGISTRIES_CONF": str(self.registries),
            "CONTAINERS_CONF": str(self.folder / "containers.conf"),
            "REGISTRY_AUTH_FILE": str(self.folder / "auth.json"),
            "XDG_DATA_HOME": str(self.folder),
            "XDG_RUNTIME_DIR": str(self.folder),
        }
        self._prefix = [*self._prefix, *self._own_blob_cache()]

    def _own_blob_cache(self) -> list[str]:
        """Words before a command that give it /var/lib/containers of its own: root's cache of known blobs is there,
        and no setting moves it."""
        if os.geteuid() != 0:
            return []
        private = self.folder / "var"
        private.mkdir()
        Path(_ROOTS_FOLDER).mkdir(parents=True, exist_ok=True)
        script = f'mount --bind "$0" {_ROOTS_FOLDER} && exec "$@"'
        return ["unshare", "--mount", "--", "/bin/sh", "-c", script, str(private)]

    def _storage(self) -> list[str]:
        return ["--root", f"{self.folder}/root", "--runroot", f"{self.folder}/runroot", "--storage-driver", "vfs"]


def _registries_conf(mirrors: Mapping[str, str], insecure: Sequence[str]) -> str:
    text = 'unqualified-search-registries = ["docker.io"]\nshort-name-mode = "permissive"\n'
    for registry, location in mirrors.items():
        text += (
            f'[[registry]]\nprefix = "{registry}"\nlocation = "{registry}"\n'
            f'[[registry.mirror]]\nlocation = "{location}"\ninsecure = true\n'
        )
    return text + "".join(f'[[registry]]\nlocation = "{place}"\ninsecure = true\n' for place in insecure)


class Podman(ContainersImage):
    """podman with storage of its own (driver vfs, so nothing is mounted)."""

    def __init__(
        self,
        mirrors: Mapping[str, str] | None = None,
        *,
        insecure: Sequence[str] = (),
        inside: Namespace | None = None,
    ) -> None:
        super().__init__("podman", mirrors, insecure=insecure, inside=inside)
        folder = self.folder
        self._podman = [program("podman") or "podman", *self._storage(), "--tmpdir", f"{folder}/libpod"]
        self._podman += ["--network-config-dir", f"{folder}/net", "--volumepath", f"{folder}/volumes"]
        self._podman += ["--runtime", str(self._own_runtime())]

    def _own_runtime(self) -> Path:
        """A runc that keeps its state in our folder. (`--runtime-flag` does not reach podman's cleanup process.)"""
        wrapper = self.folder / "runc"
        wrapper.write_text(f'#!/bin/sh\nexec {program("runc") or "runc"} --root {self.folder}/run "$@"\n')
        wrapper.chmod(0o700)
        return wrapper

    def command(self, *arguments: str, stdin: str | None = None) -> str:
        """`podman` with these arguments."""
        return self._run(*self._podman, *arguments, stdin=stdin)

    def pull(self, reference: str, *options: str) -> str:
        """`podman pull`; returns the image's ID."""
        return self.command("pull", "--quiet", "--signature-policy", str(self.policy), *options, reference).strip()

    def run(self, reference: str, *arguments: str) -> str:
        """`podman run --rm --network none` of a pulled image; returns what it printed."""
        # podman's default limits lie above what this machine may grant
        limits = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"]
        kept = ["--cgroup-parent", f"/{self._name}", "--pull", "never", "--network", "none"]
        return self.command("run", "--rm", *kept, *limits, reference, *arguments)

    def image_id(self, reference: str) -> str:
        """The image's ID as docker writes it: "sha256:" and the digest of its config."""
        return "sha256:" + self.command("image", "inspect", "--format", "{{.Id}}", reference).strip()

    def images(self) -> set[str]:
        """The names (repository:tag) of all images held."""
        return set(self.command("images", "--format", "{{.Repository}}:{{.Tag}}").split())

    def tag(self, reference: str, name: str) -> str:
        """`podman tag`"""
        return self.command("tag", reference, name)

    def push(self, reference: str, *options: str) -> str:
        """`podman push`"""
        return self.command("push", "--signature-policy", str(self.policy), *options, reference)

    def rmi(self, reference: str) -> str:
        """`podman rmi --force`"""
        return self.command("rmi", "--force", reference)

    def login(self, registry: str, user: str, password: str) -> str:
        """`podman login`, kept in this client's folder."""
        return self.command("login", "--username", user, "--password-stdin", registry, stdin=password)


class Skopeo(ContainersImage):
    """skopeo. Needs no root."""

    def __init__(
        self,
        mirrors: Mapping[str, str] | None = None,
        *,
        insecure: Sequence[str] = (),
        inside: Namespace | None = None,
    ) -> None:
        super().__init__("skopeo", mirrors, insecure=insecure, inside=inside)

    def command(self, *arguments: str, stdin: str | None = None) -> str:
        """`skopeo` with these arguments."""
        words = ["--registries-conf", str(self.registries), "--policy", str(self.policy)]
        return self._run(program("skopeo") or "skopeo", *words, *arguments, stdin=stdin)

    def copy(self, source: str, destination: str, *options: str) -> str:
        """`skopeo copy` between transports: `docker://…`, `oci:FOLDER:TAG`, `dir:FOLDER`."""
        return self.command("copy", *options, source, destination)

    def pull(self, reference: str, *options: str) -> Path:
        """Copy an image into a new `dir:` folder, and return that."""
        folder = self.folder / f"image-{os.urandom(4).hex()}"
        self.copy(f"docker://{reference}", f"dir:{folder}", *options)
        return folder

    def manifest(self, reference: str) -> bytes:
        """The manifest or index as the registry sends it."""
        return self.command("inspect", "--raw", f"docker://{reference}").encode()

    def inspect(self, reference: str, *options: str) -> dict[str, Any]:
        """`skopeo inspect` without the list of tags, for which it passes every mirror by."""
        words = ["inspect", "--no-tags", *options]
        said: dict[str, Any] = json.loads(self.command(*words, f"docker://{reference}"))
        return said

    def tags(self, repository: str) -> list[str]:
        """`skopeo list-tags`: asks the registry in the name, never its mirror."""
        said: dict[str, list[str]] = json.loads(self.command("list-tags", f"docker://{repository}"))
        return said["Tags"]

    def login(self, registry: str, user: str, password: str) -> str:
        """`skopeo login`, kept in this client's folder."""
        return self.command("login", "--username", user, "--password-stdin", registry, stdin=password)


class Buildah(ContainersImage):
    """buildah with storage of its own. It wants full names."""

    def __init__(
        self,
        mirrors: Mapping[str, str] | None = None,
        *,
        insecure: Sequence[str] = (),
        inside: Namespace | None = None,
    ) -> None:
        super().__init__("buildah", mirrors, insecure=insecure, inside=inside)

    def command(self, *arguments: str) -> str:
        """`buildah` with these arguments."""
        words = ["--registries-conf", str(self.registries)]
        return self._run(program("buildah") or "buildah", *self._storage(), *words, *arguments)

    def pull(self, reference: str, *options: str) -> str:
        """`buildah pull`; returns the image's ID."""
        return self.command("pull", "--quiet", "--signature-policy", str(self.policy), *options, reference).strip()

    def build(self, containerfile: str, name: str) -> str:
        """`buildah build` of that text, with an empty context; returns the image's ID."""
        context = self.folder / f"context-{os.urandom(4).hex()}"
        context.mkdir()
        (context / "Containerfile").write_text(containerfile)
        policy = ["--signature-policy", str(self.policy)]
        options = ["--quiet", "--isolation", "chroot", "--tag", name]
        return self.command("build", *policy, *options, str(context)).strip()

    def push(self, reference: str, *options: str) -> str:
        """`buildah push`"""
        return self.command("push", "--signature-policy", str(self.policy), *options, reference)

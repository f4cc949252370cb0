"""Clients that are daemons: containerd and dockerd."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from tests.support.clients.client import Client
from tests.support.netns import Namespace
from tests.support.packages import program
from tests.support.processes import CommandError, Daemon, answers_unix

_PLUGIN = "io.containerd."
_COLOR = re.compile(r"\x1b\[[0-9;]*m")


class Containerd(Client):
    """A containerd of our own, spoken to with `ctr`.

    `hosts`: registry (or "_default") → URL of its mirror, as hosts.toml says it; a URL with a path gets
    `override_path`. `inside`: the namespace where `ctr` runs, which is what pulls.
    """

    def __init__(self, hosts: Mapping[str, str] | None = None, *, inside: Namespace | None = None) -> None:
        super().__init__("ctrd", inside)
        self.address = self.folder / "ctrd.sock"
        self._hosts = self.folder / "hosts"
        self._hosts.mkdir()
        for registry, url in (hosts or {}).items():
            self.add_host(registry, url)
        config = self.folder / "config.toml"
        config.write_text(
            "version = 2\n"
            f'root = "{self.folder}/root"\nstate = "{self.folder}/state"\n'
            f'disabled_plugins = ["{_PLUGIN}grpc.v1.cri", "{_PLUGIN}snapshotter.v1.devmapper", '
            f'"{_PLUGIN}snapshotter.v1.aufs", "{_PLUGIN}snapshotter.v1.btrfs", "{_PLUGIN}snapshotter.v1.zfs"]\n'
            f'[grpc]\naddress = "{self.address}"\n'
            f'[plugins."{_PLUGIN}internal.v1.opt"]\npath = "{self.folder}/opt"\n'
        )
        self.daemon = Daemon(
            "containerd",
            [program("containerd") or "containerd", "--config", str(config)],
            folder=self.folder,
            ready=answers_unix(self.address),
            extra_environment=self._environment,
        )

    def add_host(self, registry: str, url: str, capabilities: Sequence[str] = ("pull", "resolve")) -> None:
        """Write (over) the hosts.toml of one registry; it counts from the next pull on."""
        folder = self._hosts / registry
        folder.mkdir(exist_ok=True)
        has_path = url.removeprefix("http://").removeprefix("https://").rstrip("/").count("/") > 0
        (folder / "hosts.toml").write_text(
            f'[host."{url}"]\ncapabilities = {json.dumps(list(capabilities))}\n'
            + ("override_path = true\n" if has_path else "")
        )

    def start(self) -> Self:
        """Start the daemon; returns when it answers."""
        self.daemon.start()
        return self

    def stop(self) -> None:
        """End the daemon; containers that were left running are not waited for."""
        self.daemon.stop()

    def close(self) -> None:
        """Stop, and remove everything, also the sockets that shims have outside of our folder."""
        self.stop()
        addresses = self.folder.glob("state/io.containerd.runtime.v2.task/*/*/address")
        sockets = [Path(file.read_text().removeprefix("unix://")) for file in addresses]
        super().close()
        for path in sockets:
            path.unlink(missing_ok=True)

    def command(self, *arguments: str) -> str:
        """`ctr` with these arguments, without colors."""
        words = [program("ctr") or "ctr", "--address", str(self.address), "--namespace", self._name]
        return _COLOR.sub("", self._run(*words, *arguments))

    def fetch(self, reference: str, *options: str) -> str:
        """`ctr content fetch`: all content of the reference's platform, not unpacked. Full names only."""
        return self.command("content", "fetch", "--hosts-dir", str(self._hosts), *options, reference)

    def pull(self, reference: str, *options: str) -> str:
        """`ctr images pull`: fetch and unpack."""
        return self.command("images", "pull", "--hosts-dir", str(self._hosts), *options, reference)

    def push(self, reference: str, *options: str) -> str:
        """`ctr images push`"""
        return self.command("images", "push", "--hosts-dir", str(self._hosts), *options, reference)

    def run(self, reference: str, *arguments: str) -> str:
        """Run a pulled image to its end, in control groups and folders of its own; returns what it printed."""
        folders = ["--runc-root", f"{self.folder}/runc", "--fifo-dir", f"{self.folder}/fifo"]
        name = f"run-{os.urandom(4).hex()}"
        return self.command("run", "--rm", "--cgroup", f"/{self._name}/{name}", *folders, reference, name, *arguments)

    def images(self) -> dict[str, str]:
        """Reference → digest of what it names (an index, or a manifest)."""
        lines = self.command("images", "list").splitlines()[1:]
        return {fields[0]: fields[2] for fields in map(str.split, lines)}

    def content(self) -> set[str]:
        """The digests of every blob and manifest held."""
        return set(self.command("content", "list", "--quiet").split())

    def rmi(self, reference: str) -> str:
        """Remove an image and, before returning, what only it used."""
        return self.command("images", "remove", "--sync", reference)


class Dockerd(Client):
    """A dockerd with a containerd of its own and no networking, spoken to with Debian's `docker`.

    `mirrors`: URLs for `--registry-mirror`. `insecure`: host:port that may speak plain http (loopback may anyway).
    `inside`: the namespace where the daemon runs. `config`: what else stands in daemon.json, over all of that.
    """

    def __init__(
        self,
        mirrors: Sequence[str] = (),
        *,
        insecure: Sequence[str] = (),
        inside: Namespace | None = None,
        config: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__("dockerd", inside)
        self.address = self.folder / "docker.sock"
        self.containerd = Containerd()
        (self.folder / "daemon.json").write_text(
            json.dumps(
                {
                    "data-root": f"{self.folder}/data",
                    "exec-root": f"{self.folder}/exec",
                    "pidfile": f"{self.folder}/docker.pid",
                    "containerd": str(self.containerd.address),
                    "deprecated-key-path": f"{self.folder}/key.json",
                    "bridge": "none",
                    "iptables": False,
                    "ip-forward": False,
                    "ip-masq": False,
                    "userland-proxy": False,
                    "exec-opts": ["native.cgroupdriver=cgroupfs"],
                    "cgroup-parent": f"/{self._name}",
                    "registry-mirrors": list(mirrors),
                    "insecure-registries": list(insecure),
                    **(config or {}),
                }
            )
        )
        address = f"unix://{self.address}"
        self.daemon = Daemon(
            "dockerd",
            [
                *self._prefix,
                program("dockerd") or "dockerd",
                "--config-file",
                f"{self.folder}/daemon.json",
                "--host",
                address,
            ],
            folder=self.folder,
            ready=answers_unix(self.address),
            extra_environment=self._environment,
            stop_seconds=30,
        )
        self._docker = [program("docker") or "docker", "--config", f"{self.folder}/client", "--host", address]
        self._prefix = []  # only the daemon is inside: the client finds it by a path

    def start(self) -> Self:
        """Start both daemons; returns when docker answers."""
        self.containerd.start()
        try:
            self.daemon.start()
        except BaseException:
            self.containerd.stop()
            raise
        return self

    def stop(self) -> None:
        """Stop both daemons; images stay for the next start."""
        self.daemon.stop()
        self.containerd.stop()

    def close(self) -> None:
        """Stop, and remove everything that they have made, also what a crash left behind."""
        self.stop()
        self.containerd.close()
        super().close()

    def kill(self) -> None:
        """End both daemons as a crash would; containers go on until `close`."""
        self.daemon.kill()
        self.containerd.daemon.kill()

    def command(self, *arguments: str, stdin: str | None = None) -> str:
        """`docker` with these arguments. A failure carries the end of the daemon's log as a note."""
        try:
            return self._run(*self._docker, *arguments, stdin=stdin)
        except CommandError as error:
            error.add_note(self.daemon.log_tail(2000))
            raise

    def pull(self, reference: str, *options: str) -> str:
        """`docker pull`"""
        return self.command("pull", *options, reference)

    def run(self, reference: str, *arguments: str) -> str:
        """`docker run --rm --network none`: pulls first what is not there; returns what it printed."""
        return self.command("run", "--rm", "--network", "none", reference, *arguments)

    def image_id(self, reference: str) -> str:
        """The image's ID: the digest of its config."""
        return self.command("image", "inspect", "--format", "{{.Id}}", reference).strip()

    def images(self) -> set[str]:
        """The names (repository:tag) of all images held."""
        return set(self.command("images", "--format", "{{.Repository}}:{{.Tag}}").split())

    def tag(self, reference: str, name: str) -> str:
        """`docker tag`"""
        return self.command("tag", reference, name)

    def push(self, reference: str) -> str:
        """`docker push`"""
        return self.command("push", reference)

    def rmi(self, reference: str) -> str:
        """`docker rmi --force`"""
        return self.command("rmi", "--force", reference)

    def login(self, registry: str, user: str, password: str) -> str:
        """`docker login`, kept in this client's folder."""
        return self.command("login", "--username", user, "--password-stdin", registry, stdin=password)

"""The Debian packages that the tests with real clients need, and how they get onto the machine.

`install()` adds what is missing and removes nothing; no service is started by it. Two runs at once take turns.
`python -m tests.support.packages` does the same from a shell.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

PROGRAMS: dict[str, str] = {
    "docker-registry": "docker-registry",
    "docker.io": "dockerd",
    "containerd": "containerd",
    "podman": "podman",
    "skopeo": "skopeo",
    "buildah": "buildah",
    "busybox-static": "busybox",
    "iproute2": "ip",
    "iptables": "iptables",
}
"""Each package and the program by which its presence is seen."""

BENCHMARK_PROGRAMS: dict[str, str] = {"nginx-light": "nginx", "wrk": "wrk"}
"""What benchmarks need beside it; installed only when asked for."""

SYSTEM_PATH = os.pathsep.join(["/usr/sbin", "/usr/bin", "/sbin", "/bin"])
"""Where Debian puts programs. Other builds of the same name in /usr/local are not what the tests are about."""

_LOCK = Path(tempfile.gettempdir()) / "mirror-tests-packages.lock"
_POLICY = Path("/usr/sbin/policy-rc.d")
_POLICY_TEXT = "#!/bin/sh\n# written by the mirror's tests while they install packages: start nothing\nexit 101\n"
_ATTEMPTS = 2


class PackagesError(Exception):
    """apt-get could not install what the tests need; the message carries its output."""


def program(name: str) -> str | None:
    """The full path of a Debian program, or None where it is not installed."""
    return shutil.which(name, path=SYSTEM_PATH)


def missing(programs: dict[str, str] | None = None) -> list[str]:
    """The packages (of `PROGRAMS` unless others are given) whose program is not there."""
    wanted = PROGRAMS if programs is None else programs
    return sorted(package for package, name in wanted.items() if program(name) is None)


def install(programs: dict[str, str] | None = None) -> list[str]:
    """Install what is missing, if we are root on a Debian machine; return what is missing afterwards.

    Without root nothing is changed. Raises `PackagesError` when apt-get fails, also after new package lists.
    """
    if os.geteuid() != 0 or program("apt-get") is None or not missing(programs):
        return missing(programs)
    with _turn():
        wanted = missing(programs)  # the run before us may have installed them
        if wanted:
            _install_with_fresh_lists(wanted)
    return missing(programs)


@contextlib.contextmanager
def _turn() -> Iterator[None]:
    """Hold the lock that lets one run at a time install."""
    descriptor = os.open(_LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _services_stay_down() -> Iterator[None]:
    """Tell maintainer scripts to start no service, unless the machine has a policy of its own."""
    if _POLICY.exists() and _POLICY.read_text(errors="replace") != _POLICY_TEXT:  # ours is left of a killed run
        yield
        return
    try:
        _POLICY.write_text(_POLICY_TEXT)
        _POLICY.chmod(0o755)
        yield
    finally:
        _POLICY.unlink(missing_ok=True)


def _install_with_fresh_lists(packages: Sequence[str]) -> None:
    with _services_stay_down():
        outcome = _apt_get("install", *packages)
        for _ in range(_ATTEMPTS):
            if outcome.returncode == 0:
                return
            _apt_get("update")  # lists that are old name files that are gone; without any there is no candidate
            outcome = _apt_get("install", *packages)
    if outcome.returncode != 0:
        message = f"apt-get install {' '.join(packages)}: exit {outcome.returncode}\n{outcome.stdout}"
        raise PackagesError(message)


def _apt_get(verb: str, *packages: str) -> subprocess.CompletedProcess[str]:
    options = ["-y", "-q", "-o", "DPkg::Lock::Timeout=300", "-o", "Acquire::Retries=3"]
    if verb == "install":
        options += ["--no-install-recommends", "--no-remove", "-o", "Dpkg::Options::=--force-confold"]
    return subprocess.run(
        ["apt-get", *options, verb, *packages],
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=900,
        check=False,
    )


def main(arguments: Sequence[str]) -> int:
    """`--benchmarks` adds what benchmarks need. Exit code 0 when nothing is missing afterwards."""
    programs = {**PROGRAMS, **BENCHMARK_PROGRAMS} if "--benchmarks" in arguments else PROGRAMS
    try:
        left = install(programs)
    except PackagesError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    if left:
        sys.stdout.write(f"missing: {' '.join(left)}\n")
        return 1
    sys.stdout.write("every package is installed\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""`mirror pull` and `mirror verify` as people run them: the command in a process, a mirror in another."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.fake_registry import FakeRegistry
from tests.support.mirror import MirrorProcess
from tests.support.processes import environment

Command = tuple[FakeRegistry, MirrorProcess]


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Command]:
    with FakeRegistry().in_thread() as registry, MirrorProcess(tmp_path / "m", {"docker.io": registry.url}) as mirror:
        yield registry, mirror


def mirror_command(mirror: MirrorProcess, *words: str, stdin: str = "") -> tuple[int, str, str]:
    """Exit code, stdout, stderr."""
    done = subprocess.run(
        [sys.executable, "-m", "mirror", *words],
        env=environment({"MIRROR_DATA": str(mirror.data)}),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_the_life_of_a_pull(running: Command) -> None:
    registry, mirror = running
    image = registry.add_image("library/alpine", "latest", layers=[1000, 2_000_000])
    planned = mirror_command(mirror, "pull", "--dry-run", "alpine")
    assert planned[0] == 0
    assert planned[1].splitlines()[1].split() == ["docker.io/library/alpine:latest", "2MB", "0B"]
    code, out, err = mirror_command(mirror, "pull", "alpine")
    first, second = (digest[7:19] for digest, _ in image.layers)
    assert (code, sorted(out.splitlines()[:2])) == (0, sorted([f"{first}: Pull complete", f"{second}: Pull complete"]))
    assert out.splitlines()[2:] == [
        f"Digest: {image.digest}",
        "Status: Downloaded newer image for alpine:latest",
        "docker.io/library/alpine:latest",
    ]
    assert "Using default tag: latest" in err
    code, out, _ = mirror_command(mirror, "pull", "-f", "-", stdin="alpine # again\nalpine:nope\n")
    assert code == 3
    assert f"{first}: Already exists" in out
    assert "Status: Image is up to date for alpine:latest" in out
    code, out, err = mirror_command(mirror, "pull", "-q", "alpine:nope")
    assert (code, out) == (4, "")
    assert err == "mirror: manifest for alpine:nope not found: docker.io does not have it\n"
    assert mirror_command(mirror, "verify")[0] == 0
    path = mirror.data / "blobs" / "sha256" / image.layers[1][0].removeprefix("sha256:")
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    code, out, _ = mirror_command(mirror, "verify")
    assert (code, out) == (7, f"{image.layers[1][0]}: damaged, and taken out of use (alpine:latest)\n")
    code, out, _ = mirror_command(mirror, "verify", "--repair", "alpine")
    assert (code, out) == (0, f"{image.layers[1][0]}: damaged, and fetched anew (alpine:latest)\n")

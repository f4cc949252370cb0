"""`mirror push` and the queue as people run them: commands in processes of their own, and a mirror that is killed."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.operations.pushing import GHCR, UPLOADS, is_large
from tests.operations.test_pull_command import mirror_command
from tests.support.fake_registry import FakeRegistry, Gate, Intake
from tests.support.images import Layout, random_layer
from tests.support.mirror import MirrorProcess
from tests.support.processes import environment, wait_until
from tests.support.registry import push

MIB = 1 << 20
Way = tuple[FakeRegistry, FakeRegistry, MirrorProcess]


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Way]:
    with FakeRegistry().in_thread() as hub, FakeRegistry().in_thread() as ghcr:
        sections: dict[str, dict[str, object] | str] = {"docker.io": hub.url, GHCR: {"url": ghcr.url, "push": "queue"}}
        with MirrorProcess(tmp_path / "m", sections) as mirror:
            yield hub, ghcr, mirror


def test_the_life_of_a_push(running: Way) -> None:
    hub, ghcr, mirror = running
    image = hub.add_image("library/alpine", "latest", layers=[1000, 2_000_000])
    assert mirror_command(mirror, "pull", "-q", "alpine")[0] == 0
    planned = mirror_command(mirror, "push", "--dry-run", "alpine", "--to", "ghcr.io/me")
    assert planned[0] == 0
    row = ["alpine:latest", "ghcr.io/me/alpine:latest", "2", "of", "2", "2MB", "0B"]
    assert planned[1].splitlines()[1].split() == row
    code, out, err = mirror_command(mirror, "push", "alpine", "--to", "ghcr.io/me")
    first, second = (digest[7:19] for digest, _ in image.layers)
    assert (code, sorted(out.splitlines()[:2])) == (0, sorted([f"{first}: Pushed", f"{second}: Pushed"]))
    assert out.splitlines()[2:] == [
        f"latest: digest: {image.digest} size: {len(image.manifest.raw)}",
        "sent 2 of 2 layers, 2MB of 2MB",
    ]
    assert "Using default tag: latest" in err
    assert "The push refers to repository [ghcr.io/me/alpine]" in err
    code, out, _ = mirror_command(mirror, "push", "alpine", "--to", "ghcr.io/you")
    assert (code, out.count("Mounted from me/alpine"), out.splitlines()[-1]) == (0, 2, "sent 0 of 2 layers, 0B of 2MB")
    assert mirror_command(mirror, "push", "alpine:none", "--to", "ghcr.io/me")[::2] == (
        4,
        "The push refers to repository [ghcr.io/me/alpine]\nalpine:none: failed\n"
        "mirror: An image does not exist locally with the tag: alpine:none\n",
    )
    assert mirror_command(mirror, "push", "alpine", "x:1", "--to", "ghcr.io/me")[0] == 3
    assert ghcr.repository("me/alpine").tags == {"latest": image.digest}
    _, out, _ = mirror_command(mirror, "status")
    assert "sent         2MB in 3 blobs to ghcr.io" in out.splitlines()


def test_a_mirror_killed_while_it_pushes_sends_no_byte_twice(running: Way) -> None:
    """Breaks if the upload is known to the first process only."""
    hub, ghcr, mirror = running
    image = hub.add_image("library/alpine", "3", layers=[8 * MIB])
    whole = 8 * MIB + len(image.config[1])
    assert mirror_command(mirror, "pull", "-q", "alpine:3")[0] == 0
    words = [sys.executable, "-m", "mirror", "push", "alpine:3", "--to", "ghcr.io/me"]
    ghcr.script_intake(is_large, Intake(5 * MIB, "hang", Gate()))
    with subprocess.Popen(
        words, env=environment({"MIRROR_DATA": str(mirror.data)}), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as pushing:
        wait_until(lambda: ghcr.received(UPLOADS) >= 5 * MIB, 20, "5 MiB")
        mirror.kill()
        _, said = pushing.communicate(timeout=20)
    assert pushing.returncode == 1
    assert b"broke off" in said
    assert b"No image pushed until then" in said
    mirror.start()
    code, out, _ = mirror_command(mirror, "push", "alpine:3", "--to", "ghcr.io/me")
    assert (code, out.splitlines()[-1].partition(",")[0]) == (0, "sent 1 of 1 layer")
    assert ghcr.received(UPLOADS) == whole
    assert ghcr.repository("me/alpine").blobs[image.layers[0][0]] == image.layers[0][1]


def test_a_mirror_killed_while_it_sends_what_waits(running: Way, tmp_path: Path) -> None:
    """The same for the queue: the next process goes on by itself."""
    _, ghcr, mirror = running
    layout = Layout(tmp_path / "layout")
    image = layout.add_image([random_layer(layout, 4 * MIB, seed="queue")])
    ghcr.script_intake(is_large, Intake(3 * MIB, "hang", Gate()))
    push(image, mirror.url, f"{GHCR}/me/app", "1")
    wait_until(lambda: ghcr.received(UPLOADS) >= 3 * MIB, 20, "3 MiB")
    wait_until(lambda: "sending: 0 of 1 layer" in mirror_command(mirror, "queue")[1], 20, "how far it is")
    mirror.kill()
    mirror.start()
    wait_until(lambda: mirror_command(mirror, "queue", "--format", "{{.ID}}")[1] == "", 20, "an empty queue")
    assert ghcr.received(UPLOADS) == image.layers[0].size + image.config.size
    assert ghcr.repository("me/app").tags == {"1": image.digest}

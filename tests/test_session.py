"""README's example session, typed on a terminal at the installed command, with a registry of the tests' own behind the
mirror. `python -m tests.test_session` prints it as it is now, to be pasted."""

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from multidict import CIMultiDict

from tests.cli.terminal import Session
from tests.support.fake_registry import FakeRegistry
from tests.support.fake_registry.content import digest_of, random_bytes
from tests.support.fake_registry.wire import Answer, Request
from tests.support.images import OCI
from tests.support.installed import Installed, make
from tests.support.mirror import settings_for
from tests.support.processes import Daemon, answers_http, free_port
from tests.support.transcripts import Step, differences, steps

README = Path(__file__).parents[1] / "README.md"
COLUMNS = 118
ALPINE = [("ADD alpine-minirootfs-3.20.3.tar.gz / # buildkit", 3_620_000)]
PYTHON = [
    *ALPINE,
    ("RUN /bin/sh -c set -eux; apk add --no-cache ca-certificates tzdata # buildkit", 462_000),
    ("RUN /bin/sh -c set -eux; wget -O python.tar.xz … # buildkit", 12_900_000),
]
FOUND = [
    {"name": "alpine", "description": "A minimal Docker image based on Alpine Linux with a complete package index",
     "star_count": 11_012, "is_official": True},
    {"name": "alpine/git", "description": "A simple git container running in alpine linux", "star_count": 252},
    {"name": "alpine/curl", "description": "curl, on alpine", "star_count": 11},
]  # fmt: skip


# --- the registry -----------------------------------------------------------------------------------------


def add(hub: FakeRegistry, name: str, tag: str, steps: list[tuple[str, int]], command: str) -> None:
    """An image for linux/amd64 and linux/arm64 as Docker Hub has them. What the two share is the index alone."""
    entries = []
    for architecture in ("amd64", "arm64"):
        layers = [random_bytes(f"{architecture}/{text}", size) for text, size in steps]
        config = {
            "created": "2024-09-06T22:20:07Z",
            "os": "linux",
            "architecture": architecture,
            "config": {"Cmd": [command]},
            "rootfs": {"type": "layers", "diff_ids": [digest_of(layer) for layer in layers]},
            "history": [
                *({"created": "2024-09-06T22:20:07Z", "created_by": text} for text, _ in steps),
                {"created": "2024-09-06T22:20:07Z", "created_by": f'CMD ["{command}"]', "empty_layer": True},
            ],
        }
        raw = json.dumps(config).encode()
        manifest = hub.add_manifest(
            name,
            {
                "schemaVersion": 2,
                "mediaType": OCI.manifest,
                "config": {"mediaType": OCI.config, "digest": hub.add_blob(name, raw), "size": len(raw)},
                "layers": [
                    {"mediaType": OCI.layer, "digest": hub.add_blob(name, layer), "size": len(layer)}
                    for layer in layers
                ],
            },
        )
        entries.append({**manifest.descriptor, "platform": {"os": "linux", "architecture": architecture}})
    index = {"schemaVersion": 2, "mediaType": OCI.index, "manifests": entries}
    hub.add_manifest(name, index, tag=tag, media_type=OCI.index)


def found(request: Request, _: Answer) -> Answer:
    """Docker Hub's `/v1/search`."""
    results: list[dict[str, Any]] = [{"is_official": False, "is_automated": False, **entry} for entry in FOUND]
    count = int(request.query.get("n", ["25"])[0])
    body = {"num_results": len(results), "results": results[:count], "page": 1, "num_pages": 1, "page_size": count}
    return Answer(200, CIMultiDict({"Content-Type": "application/json"}), json.dumps(body).encode())


@asynccontextmanager
async def hub_of_the_session() -> AsyncIterator[FakeRegistry]:
    async with FakeRegistry() as hub:
        add(hub, "library/alpine", "3.20", ALPINE, "/bin/sh")
        add(hub, "library/alpine", "3.19", ALPINE, "/bin/sh")
        add(hub, "library/python", "3.12-alpine", PYTHON, "python3")
        hub.script("GET /v1/search", found, times=None)
        yield hub


# --- the session ------------------------------------------------------------------------------------------


@contextmanager
def service(installed: Installed, hub: str, folder: Path) -> Iterator[dict[str, str]]:
    """The installed mirror, running; what the environment of a shell has to say to reach it."""
    data, port = folder / "data", free_port()
    settings = settings_for(data, {"docker.io": hub})
    registries = {
        name: {"url": hub} if registry.enabled else {"enabled": False} for name, registry in settings.registries.items()
    }
    path = f"{installed.command.parent}:{os.environ['PATH']}"
    own = {"PATH": path, "HOME": str(folder), "MIRROR_CONFIG": os.devnull}
    daemon = Daemon(
        "mirror",
        [str(installed.command), "serve", "--data", str(data), "--listen", f"127.0.0.1:{port}"],
        folder=folder,
        ready=answers_http("127.0.0.1", port),
        extra_environment={
            **own, "MIRROR_SOCKET": str(folder / "sock"), "MIRROR_REGISTRIES": json.dumps(registries)
        },
    )  # fmt: skip
    with daemon:
        yield {**own, "MIRROR_SERVER": f"unix://{folder}/sock"}


def typed(command: str, environ: dict[str, str]) -> tuple[int, list[str]]:
    """The exit code, and all that is to be seen then."""
    with Session(command=("bash", "-c", command), environ=environ, columns=COLUMNS, rows=50) as session:
        code = session.end(60)
    return code, session.screen.everything()


def played(session: list[Step], environ: dict[str, str]) -> Iterator[tuple[Step, int, list[str]]]:
    for step in session:
        yield step, *typed(step.command, environ)


async def test_the_session_in_the_readme(installed: Installed, tmp_path: Path) -> None:
    session = list(steps(README.read_text()))
    assert len(session) >= 10
    wrong = []
    async with hub_of_the_session() as hub:

        def play() -> None:
            with service(installed, hub.url, tmp_path) as environ:
                for step, code, seen in played(session, environ):
                    differing = differences(step, seen)
                    if differing or (code != 0) is not step.fails:
                        wrong.append("\n".join([f"$ {step.command}   (exit {code})", *differing]))

        await asyncio.to_thread(play)
    assert not wrong, "\n" + "\n\n".join(wrong)


# --- reading it -------------------------------------------------------------------------------------------

DOCUMENT = """
```console
$ one
a 0123456789ab   3 weeks ago   x
b
$ two
mirror: no
```
```sh
$ none
```
"""


def test_steps_are_read_from_console_blocks_only() -> None:
    assert list(steps(DOCUMENT)) == [
        Step("one", ("a 0123456789ab   3 weeks ago   x", "b")),
        Step("two", ("mirror: no",)),
    ]
    assert [step.fails for step in steps(DOCUMENT)] == [False, True]


def test_what_stands_above_the_first_prompt_is_refused() -> None:
    with pytest.raises(ValueError, match="no prompt above 'a'"):
        list(steps("```console\na\n```\n"))


@pytest.mark.parametrize(
    ("shown", "seen", "same"),
    [
        (["a 0123456789ab   3 weeks ago   x"], ["a ffffffffffff   About an hour ago  x"], True),
        (["a 0123456789ab"], ["a 0123456789abc"], False),
        (["a   b"], ["a b"], False),
        (["a", "b"], ["a"], False),
        (["a"], ["a", "b"], False),
        (["41.2MB"], ["41.3MB"], False),
        (["Some regis…"], ["Some registry said so"], True),
        (["Some regis…"], ["Another"], False),
        (["cut…"], ["cut…"], True),
        (["cut…"], ["cut or…"], False),
    ],
)
def test_what_is_the_same(shown: list[str], seen: list[str], same: bool) -> None:
    assert (differences(Step("x", tuple(shown)), seen) == []) is same


async def _print() -> None:
    with tempfile.TemporaryDirectory() as folder:
        if len(sys.argv) > 1:
            installed = Installed(Path(sys.argv[1]))
        else:
            installed = Installed(Path(folder) / "installed")
            done = await asyncio.to_thread(make, "install", installed.folder)
            if done.returncode != 0:
                sys.exit(done.stderr)
        async with hub_of_the_session() as hub:

            def play() -> None:
                with service(installed, hub.url, Path(folder)) as environ:
                    for step, code, seen in played(list(steps(README.read_text())), environ):
                        print(f"$ {step.command}", *seen, sep="\n")  # noqa: T201
                        if (code != 0) is not step.fails:
                            print(f"[exit {code}]", file=sys.stderr)  # noqa: T201

            await asyncio.to_thread(play)


if __name__ == "__main__":
    asyncio.run(_print())

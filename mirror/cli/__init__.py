"""The command line: docker's words where docker has them. A thin client of `/api/v1/`; `cli.local` alone starts a
server in this process.

A verb's module is imported when the verb is used, and none of them imports aiohttp or pydantic: they take longer to
import than most verbs take to run. Exit codes stand on the exception classes (`mirror.errors`).
"""

import contextlib
import os
import sys
from collections.abc import Mapping
from io import TextIOWrapper
from types import MappingProxyType
from typing import Any

import click

from mirror import __version__
from mirror.cli.groups import Lazy, Place
from mirror.cli.output import NotWritten, escape, flush, note, result
from mirror.errors import MirrorError

INTERRUPTED = 130

#: The verbs of the help, by what they are for.
SECTIONS: Mapping[str, Mapping[str, Place]] = MappingProxyType(
    {
        "Images": {
            "search": Place("mirror.cli.search", "search", "Search a registry for images."),
            "tags": Place("mirror.cli.tags", "tags", "List a repository's tags, here and at its registry."),
            "pull": Place("mirror.cli.pull", "pull", "Download images from their registries into the mirror."),
            "push": Place("mirror.cli.push", "push", "Send images to a registry, which gets only what it lacks."),
            "images": Place("mirror.cli.images", "images", "List the images that are held."),
            "inspect": Place("mirror.cli.inspect", "inspect", "Display details of images, as JSON with docker's keys."),
            "history": Place(
                "mirror.cli.inspect", "history", "Show the history of an image: its steps, the last one first."
            ),
            "layers": Place("mirror.cli.inspect", "layers", "List an image's layers, and who shares them."),
            "tag": Place("mirror.cli.tags", "tag", "Give an image another name."),
            "rmi": Place("mirror.cli.remove", "rmi", "Remove images from the mirror, never from a registry."),
            "image": Place("mirror.cli", "image", "Manage images: docker's other words for the same."),
        },
        "Room": {
            "df": Place("mirror.cli.storage", "df", "Show what the mirror stores, and what sharing saves."),
            "prune": Place("mirror.cli.remove", "prune", "Remove unused images and layers."),
            "pin": Place("mirror.cli.storage", "pin", "Keep images: neither eviction nor prune removes them."),
            "unpin": Place("mirror.cli.storage", "unpin", "Let go of images that were pinned."),
            "verify": Place(
                "mirror.cli.storage", "verify", "Read everything that is stored and compare it with its digest."
            ),
        },
        "Access": {
            "login": Place("mirror.cli.login", "login", "Log in: the mirror to a registry, or yourself to a mirror."),
            "logout": Place(
                "mirror.cli.login", "logout", "Log out: the mirror from a registry, or yourself from a mirror."
            ),
            "user": Place("mirror.cli.access", "user", "Manage the mirror's users."),
            "offline": Place("mirror.cli.access", "offline", "Stop asking registries, or ask them again."),
            "misses": Place("mirror.cli.access", "misses", "List what was asked for and is not here."),
            "queue": Place("mirror.cli.queue", "queue", "List the pushes that wait for their registry."),
        },
        "The mirror": {
            "serve": Place("mirror.cli.local", "serve", "Run the mirror."),
            "status": Place("mirror.cli.status", "status", "Show how the mirror and its registries are doing."),
            "config": Place("mirror.cli.config_verbs", "config", "Check the settings, or show those in force."),
            "completion": Place("mirror.cli.completion", "completion", "Print a shell's completion script."),
        },
    }
)

#: Verb → its place, in the order of the help.
VERBS: Mapping[str, Place] = MappingProxyType(
    {verb: place for places in SECTIONS.values() for verb, place in places.items()}
)

#: What `docker image` calls them.
IMAGE_VERBS: Mapping[str, Place] = MappingProxyType(
    {
        "history": VERBS["history"],
        "inspect": VERBS["inspect"],
        "ls": VERBS["images"],
        "prune": VERBS["prune"],
        "pull": VERBS["pull"],
        "push": VERBS["push"],
        "rm": VERBS["rmi"],
        "tag": VERBS["tag"],
    }
)


class _Verbs(Lazy):
    """Ends the process with the exit codes that the README lists."""

    def invoke(self, ctx: click.Context) -> Any:
        for stream in (sys.stdout, sys.stderr):  # a terminal that lacks a character is no reason to fail
            if isinstance(stream, TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
        try:
            return super().invoke(ctx)
        except MirrorError as error:
            for line in error.message.splitlines():
                note(f"mirror: {escape(line)}")
            ctx.exit(error.exit_code)
        except KeyboardInterrupt:
            ctx.exit(INTERRUPTED)


@click.group(
    cls=_Verbs,
    sections=SECTIONS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, "-v", "--version", prog_name="mirror", message="%(prog)s %(version)s")
def main() -> None:
    """A local cache and mirror for container images.

    Docker, containerd, podman and build tools pull through it; what was pulled once is here from then on, also when
    the registry is not.
    """


def run() -> None:
    """The command `mirror`, to the end of the process.

    A verb that only asked a mirror ends without taking Python down module by module: it has nothing left to do, and
    that is a sixth of its time. Who ran a server in this process ends as every program does.
    """
    try:
        code = _code()
        flush()
    except NotWritten as error:
        with contextlib.suppress(OSError):
            note(f"mirror: {escape(error.message)}")
        code = error.exit_code
    if isinstance(code, int) and "mirror.application" not in sys.modules:
        with contextlib.suppress(OSError, ValueError):  # somebody else closed it: Python knows what to do then
            sys.stderr.flush()
            os._exit(code)
    sys.exit(code)


def _code() -> int | str | None:
    """What the command ends with."""
    try:
        main(prog_name="mirror")
    except SystemExit as ended:
        return ended.code
    except OSError:
        result("")  # where this fails as well, it was that: what click prints itself, the help
        raise
    return 0


@click.group(cls=Lazy, sections={"Commands": IMAGE_VERBS}, aliases={"list": "ls", "remove": "rm"})
def image() -> None:
    """Manage images: docker's other words for the same."""

"""Beside the real docker: the same images, told to both, print the same columns."""

import time
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Run
from tests.cli.docker import docker, needs_docker
from tests.cli.samples import DAY, digest, image, rfc3339
from tests.cli.scripted import Scripted

pytestmark = needs_docker

AGES = [65, 3030, 5030, 20 * 3600, 40 * 3600, 3.1 * DAY, 20.1 * DAY, 100.1 * DAY, 1000.1 * DAY]
SIZES = [0, 999, 1234, 3_623_807, 41_200_000, 999_400_000, 7_900_000_000]
IMAGES = [
    image(
        name="alpine" if number % 2 else "ghcr.io/org/image",
        tag=f"v{number}",
        id=digest(f"{number:x}"),
        created=rfc3339(age),
        size=SIZES[number % len(SIZES)],
    )
    for number, age in enumerate(AGES)
] + [image(name="team/app", tag="latest", id=digest("f"), created=None)]


def as_docker_has_it(entry: dict[str, Any]) -> dict[str, Any]:
    created = entry["created"]
    seconds = time.mktime(time.strptime(created, "%Y-%m-%dT%H:%M:%SZ")) - time.timezone if created else -62135596800
    return {
        "Id": entry["id"],
        "ParentId": "",
        "RepoTags": [f"{entry['name']}:{entry['tag']}"],
        "RepoDigests": [f"{entry['name']}@{entry['digest']}"],
        "Created": int(seconds),
        "Size": entry["size"],
        "SharedSize": -1,
        "Containers": -1,
    }


def columns(table: str, names: list[str]) -> list[list[str]]:
    """These columns of a table, found by their headers."""
    header, *lines = table.splitlines()
    starts = [header.index(name) for name in names]
    following = [next((i for i in range(start, len(header)) if header[i:].startswith("   ")), None) for start in starts]
    ends = []
    for end in following:
        after = None if end is None else next((i for i in range(end, len(header)) if header[i] != " "), None)
        ends.append(after)
    return [[line[start:end].rstrip() for start, end in zip(starts, ends, strict=True)] for line in lines]


@pytest.mark.parametrize("words", [[], ["--digests"], ["--no-trunc"]])
def test_images(api: Scripted, run: Run, tmp_path: Path, words: list[str]) -> None:
    api["GET /images"] = {"images": IMAGES, "next": None}
    theirs = docker(tmp_path, {"/images/json": [as_docker_has_it(each) for each in IMAGES]}, "images", *words)
    ours = run("images", *words).stdout
    names = ["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"] + (["DIGEST"] if "--digests" in words else [])
    rows = columns(ours, names)
    assert rows == columns(theirs, names)
    assert len(rows) == len(IMAGES)
    for our, their in zip(ours.splitlines(), theirs.splitlines(), strict=True):
        assert our.startswith(their[: their.index("SIZE")] if "SIZE" in their else their.rstrip()[:60])


@pytest.mark.parametrize(
    "words",
    [["-q"], ["--format", "{{.Repository}}:{{.Tag}} {{.ID}} {{.Size}}"], ["--format", "table {{.ID}}\\t{{.Tag}}"]],
)
def test_images_in_other_forms(api: Scripted, run: Run, tmp_path: Path, words: list[str]) -> None:
    api["GET /images"] = {"images": IMAGES, "next": None}
    theirs = docker(tmp_path, {"/images/json": [as_docker_has_it(each) for each in IMAGES]}, "images", *words)
    assert run("images", *words).stdout == "".join(f"{line.rstrip()}\n" for line in theirs.splitlines())


def test_history(api: Scripted, run: Run, tmp_path: Path) -> None:
    now = int(time.time())
    past: list[dict[str, Any]] = [
        {"created": now - 100, "by": 'CMD ["/bin/sh"]', "size": 0, "comment": "buildkit.dockerfile.v0"},
        {"created": now - 50 * 86400, "by": "ADD x\ty in / ", "size": 3_600_000, "comment": ""},
    ]
    history = [
        {
            "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(step["created"])),
            "created_by": step["by"],
            "comment": step["comment"],
            "empty_layer": not step["size"],
        }
        for step in reversed(past)
    ]
    api["GET /image"] = {"id": digest("a"), "config": {"history": history}, "layers": [{"size": 3_600_000}]}
    played = [
        {
            "Id": digest("a") if number == 0 else "<missing>",
            "Created": step["created"],
            "CreatedBy": step["by"],
            "Size": step["size"],
            "Comment": step["comment"],
            "Tags": None,
        }
        for number, step in enumerate(past)
    ]
    for words in ([], ["--no-trunc"], ["-q"]):
        theirs = docker(tmp_path, {"/images/alpine/history": played}, "history", *words, "alpine")
        assert run("history", *words, "alpine").stdout == "".join(f"{line.rstrip()}\n" for line in theirs.splitlines())


def test_search(api: Scripted, run: Run, tmp_path: Path) -> None:
    found = [("nginx", "Official build of Nginx.", 20_000, True), ("a/b", "", 1, False)]
    api["GET /search"] = {
        "results": [
            {"name": name, "description": text, "stars": stars, "official": official, "cached": False}
            for name, text, stars, official in found
        ]
    }
    played = [
        {"name": name, "description": text, "star_count": stars, "is_official": official, "is_automated": False}
        for name, text, stars, official in found
    ]
    theirs = docker(tmp_path, {"/images/search": played}, "search", "nginx").splitlines()
    ours = run("search", "nginx").stdout.splitlines()
    assert ours[0] == f"{theirs[0]}   CACHED"
    assert ours[1:] == [line.rstrip() for line in theirs[1:]]


def test_inspect_templates(api: Scripted, run: Run, tmp_path: Path) -> None:
    config = {"Env": ["A=1", "B=2"], "Labels": {"b": "2", "a": "1"}, "Cmd": None}
    api["GET /image"] = {
        "id": digest("a"),
        "name": "alpine",
        "size": 123,
        "tags": ["docker.io/library/alpine:3"],
        "config": {"os": "linux", "architecture": "amd64", "config": config},
    }
    played = {"Id": digest("a"), "RepoTags": ["alpine:3"], "Os": "linux", "Architecture": "amd64", "Config": config}
    for form in (
        "{{.Id}} {{.Os}}/{{.Architecture}}",
        "{{.Config.Env}} {{.Config.Labels}} {{index .RepoTags 0}}",
        "{{range $k, $v := .Config.Labels}}{{$k}}={{$v}}{{println}}{{end}}",
        '{{join .RepoTags ","}}{{len .Config.Env}}{{if .Config.Cmd}}x{{else}}y{{end}}',
        "{{json .Config.Labels}} {{.Os | upper}} {{printf `%-8s|%5.2s|` .Os .Os}}",
        "{{with .Config.Labels}}{{.a}}{{end}} {{- 1}} {{ .Id | len -}} x",
    ):
        theirs = docker(tmp_path, {"/images/alpine/json": played}, "image", "inspect", "-f", form, "alpine")
        assert run("inspect", "-f", form, "alpine").stdout == theirs, form

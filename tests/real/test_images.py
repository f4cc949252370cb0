"""`mirror images` beside `docker images`: what a real dockerd pulled through the mirror has the same columns there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.support import images
from tests.support.clients import Dockerd
from tests.support.fake_registry import FakeRegistry
from tests.support.images import DOCKER, OCI, Flavor, Image, Layout
from tests.support.mirror import MirrorProcess

pytestmark = pytest.mark.real

#: As in docker's own table.
COLUMNS = [
    "--format",
    "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{if .CreatedSince}}{{.CreatedSince}}{{else}}N/A{{end}}",
]
AGES = {"new": 90 * 60, "days": 3 * 86400, "weeks": 20 * 86400, "months": 100 * 86400, "years": 1000 * 86400}


def dated(layout: Layout, name: str, age: float | None, *, flavor: Flavor = OCI, **platform: str) -> Image:
    """An image that says it is so many seconds old; `age` None: it does not say."""
    layer = images.random_layer(layout, 3000, seed=name, flavor=flavor)
    runs_on = {"os": "linux", "architecture": "amd64", **platform}
    config: dict[str, Any] = {
        **runs_on,
        "config": {"Labels": {"name": name}},
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id]},
    }
    if age is not None:
        config["created"] = (datetime.now(UTC) - timedelta(seconds=age)).strftime("%Y-%m-%dT%H:%M:%S.123456789Z")
    settings = layout.add_json(config, flavor.config)
    body = {
        "schemaVersion": 2,
        "mediaType": flavor.manifest,
        "config": settings.descriptor,
        "layers": [layer.descriptor],
    }
    return Image(layout.add_json(body, flavor.manifest), settings, (layer,), runs_on)


def platforms(layout: Layout) -> list[Image]:
    return [
        dated(layout, "s390x", 500 * 86400, architecture="s390x"),
        dated(layout, "amd64", 40 * 86400),
        dated(layout, "arm64", 41 * 86400, architecture="arm64"),
    ]


@pytest.fixture
def hub(layout: Layout) -> Iterator[FakeRegistry]:
    """docker.io with images of many ages, for one platform and for several."""
    with FakeRegistry().in_thread() as registry:
        for name, age in AGES.items():
            flavor = DOCKER if name == "days" else OCI
            registry.add_layout_image(f"library/{name}", "1", dated(layout, name, age, flavor=flavor))
        registry.add_layout_image("team/app", "v1", dated(layout, "app", 86400))
        registry.add_layout_image("team/timeless", "v1", dated(layout, "timeless", None))
        several = platforms(layout)
        attests = [images.attestation(layout, image) for image in several]
        registry.add_layout_image("library/multi", "1", layout.add_index([*attests, *several]))
        # the same images: docker, which has one, does not ask for its manifest again under another name
        registry.add_layout_image("library/list", "1", layout.add_index(several, flavor=DOCKER))
        yield registry


def lines(text: str) -> list[str]:
    """A list without its order: docker's is by age, the mirror's by name, so that it can be paged."""
    return sorted(text.splitlines())


def test_the_same_columns(
    hub: FakeRegistry,
    layout: Layout,
    mirror: Callable[..., MirrorProcess],
    dockerd: Callable[..., Dockerd],
) -> None:
    with FakeRegistry().in_thread() as other:
        other.add_layout_image("org/tool", "2", dated(layout, "tool", 7200))
        served = mirror({"docker.io": hub.url, "quay.test": other.url})
        client = dockerd(served.authority)
        for name in (*AGES, "multi", "list"):
            client.pull(f"{name}:1")
        client.pull("team/app:v1")
        client.pull("team/timeless:v1")
        client.pull(f"{served.authority}/quay.test/org/tool:2")
        # a tag that moves leaves an image without one; an image that is pulled by its digest has none
        hub.add_layout_image("team/app", "v1", dated(layout, "app again", 60))
        client.pull("team/app:v1")
        untagged = dated(layout, "by its digest", AGES["weeks"])
        hub.add_layout_image("library/digest", None, untagged)
        client.pull(f"digest@{untagged.digest}")

        def both(*words: str) -> tuple[list[str], list[str]]:
            theirs = client.command("images", *COLUMNS, *words).replace(f"{served.authority}/", "")
            return lines(served.command("images", *COLUMNS, *words)), lines(theirs)

        ours, theirs = both()
        assert ours == theirs
        assert len(ours) == len(AGES) + 7
        for words in _questions():
            ours, theirs = both(*words)
            assert ours == theirs, words
        assert both("--no-trunc")[0] == both("--no-trunc")[1]
        for identifier in {line.split("\t")[2] for line in both()[1]}:
            form = "{{.Id}} {{.Architecture}} {{.Os}} {{json .Config.Labels}}"
            assert served.command("inspect", "--format", form, identifier) == client.command(
                "image", "inspect", "--format", form, identifier
            )


def _questions() -> Sequence[Sequence[str]]:
    """Filters and names that docker and the mirror have to judge alike."""
    return (
        ["multi"],
        ["team/*"],
        ["*:v1"],
        ["team/app:v1"],
        ["nothing"],
        ["--filter", "dangling=true"],
        ["--filter", "label=name=days"],
        ["--filter", "label=name"],
        ["--filter", "before=multi:1"],
        ["--filter", "since=multi:1"],
        ["--filter", "reference=m*", "--filter", "reference=list"],
        ["--filter", "since=years:1", "--filter", "before=days:1", "--filter", "reference=*:1"],
    )

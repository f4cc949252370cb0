"""What a mirror's API answers, as examples."""

import time
from typing import Any

DAY = 86400.0


def digest(letter: str) -> str:
    return "sha256:" + letter * 64


def rfc3339(ago: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - ago))


def image(**values: Any) -> dict[str, Any]:
    """An `Image`, with other values where given."""
    return {
        "name": "alpine",
        "repository": "docker.io/library/alpine",
        "tag": "3.20",
        "digest": digest("d"),
        "id": digest("a"),
        "created": rfc3339(21 * DAY + 60),
        "size": 3_623_807,
        "unique": 3_620_000,
        "last_pulled": time.time() - 7300,
        "pinned": False,
        "origin": "upstream",
        "gone": False,
        "complete": True,
        "platforms": [
            {
                "platform": "linux/amd64",
                "digest": digest("1"),
                "id": digest("a"),
                "size": 3_623_807,
                "held": True,
                "attestation": False,
            },
            {
                "platform": "linux/arm64/v8",
                "digest": digest("2"),
                "id": None,
                "size": 0,
                "held": False,
                "attestation": False,
            },
            {
                "platform": "unknown/unknown",
                "digest": digest("3"),
                "id": None,
                "size": 1200,
                "held": True,
                "attestation": True,
            },
        ],
        **values,
    }


def detail(**values: Any) -> dict[str, Any]:
    """An `ImageDetail`."""
    return {
        **image(),
        "media_type": "application/vnd.oci.image.manifest.v1+json",
        "manifest": {"schemaVersion": 2},
        "config": {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Env": ["PATH=/bin"], "Cmd": ["/bin/sh"], "Labels": {"b": "2", "a": "1"}},
            "rootfs": {"type": "layers", "diff_ids": [digest("e"), digest("f")]},
            "history": [
                {"created": rfc3339(40 * DAY), "created_by": "/bin/sh -c #(nop) ADD file:" + "37a7" * 12 + "\tin / "},
                {"created": rfc3339(39 * DAY), "created_by": 'CMD ["/bin/sh"]', "empty_layer": True},
                {"created": rfc3339(100), "created_by": "RUN x", "comment": "buildkit.dockerfile.v0"},
            ],
        },
        "layers": [
            {"digest": digest("4"), "size": 3_600_000, "media_type": "application/vnd.oci.image.layer.v1.tar+gzip"},
            {"digest": digest("5"), "size": 23_807, "media_type": "application/vnd.oci.image.layer.v1.tar+gzip"},
        ],
        "children": [],
        "tags": ["docker.io/library/alpine:3.20", "docker.io/library/alpine:latest"],
        "pins": [],
        **values,
    }

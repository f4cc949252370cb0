"""Images of several platforms that pulls are tested with."""

from pathlib import Path

from tests.support import images
from tests.support.images import Layout


def layout_index(folder: Path, *, attestations: bool = False) -> images.Index:
    """linux/amd64 and linux/arm64 with a layer each and one in common, and what BuildKit says of them."""
    layout = Layout(folder)
    shared = images.random_layer(layout, 40_000, seed="shared")
    made = [
        layout.add_image(
            [shared, images.random_layer(layout, 20_000, seed=name)],
            platform={"os": "linux", "architecture": name} | ({"variant": "v8"} if name == "arm64" else {}),
        )
        for name in ("amd64", "arm64")
    ]
    attached = [images.attestation(layout, image) for image in made] if attestations else []
    return layout.add_index([*made, *attached])


def bytes_of(image: images.Image) -> int:
    return sum(blob.size for blob in image.blobs)

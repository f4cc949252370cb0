"""What belongs to an image: which manifests of an index, which blobs (OCI image-spec, image-index.md; BuildKit's
attestation storage; docker's manifest lists).

A platform is carried with its attestations: docker fetches them too, and fails without. Children of an index that are
no manifests are blobs (BuildKit's cache). Foreign layers are left out: a registry need not have them, and their URLs
are never followed.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from mirror.errors import ManifestUnknown
from mirror.oci.digest import Digest
from mirror.oci.manifest import (
    DOCKER_CONFIG,
    INDEX_TYPES,
    MANIFEST_TYPES,
    OCI_CONFIG,
    Child,
    Descriptor,
    Manifest,
    Role,
)
from mirror.operations.platforms import Platform, best, written
from mirror.tasks import each

Read = Callable[[Descriptor], Awaitable[Manifest]]
"""How a manifest below another is had."""

_AT_ONCE = 4  # manifests that are asked for at the same time
_DEEPEST = 4  # indices below one another
_ATTESTATION = "attestation-manifest"
_KIND, _SUBJECT = "vnd.docker.reference.type", "vnd.docker.reference.digest"
_UNKNOWN = "unknown/unknown"


@dataclass(frozen=True, slots=True)
class Part:
    """A blob of an image. `shown`: a layer as people know them, no config and nothing of an attestation."""

    descriptor: Descriptor
    shown: bool


@dataclass(slots=True)
class Plan:
    """What an image needs, each digest once. `root` stands among `manifests`.

    `platforms` are those of an index that were chosen; of a single image its `config` tells.
    """

    root: Manifest
    manifests: dict[Digest, Manifest] = field(default_factory=dict)
    parts: dict[Digest, Part] = field(default_factory=dict)
    foreign: dict[Digest, Descriptor] = field(default_factory=dict)
    platforms: list[str] = field(default_factory=list)

    @property
    def config(self) -> Descriptor | None:
        """The config of a single image that has a platform; None for an index, and for what is no image."""
        config = self.root.config
        return config if config is not None and config.media_type in (OCI_CONFIG, DOCKER_CONFIG) else None

    def add(self, manifest: Manifest, *, shown: bool = True) -> None:
        """This manifest, and what it names but for other manifests."""
        self.manifests[manifest.descriptor.digest] = manifest
        for child in manifest.children():
            if child.role is Role.MANIFEST:
                continue
            digest = child.descriptor.digest
            if child.foreign:
                self.foreign[digest] = child.descriptor
            elif digest not in self.parts:
                self.parts[digest] = Part(child.descriptor, shown and child.role is not Role.CONFIG)


async def plan(root: Manifest, wishes: Sequence[Platform] | None, read: Read) -> Plan:
    """What the image `root` needs on these platforms (None: on all it has). A single image is taken as it is.

    Raises `ManifestUnknown` for a platform that an index lacks, and what `read` raises.
    """
    made = Plan(root)
    made.add(root)
    if not root.is_index:
        return made
    entries = await _entries(made, root, read, 0)
    chosen = _chosen(entries, wishes)
    made.platforms = [child.platform for child in chosen if child.platform and child.platform != _UNKNOWN]
    taken = {str(child.descriptor.digest) for child in chosen}
    attached = [child for child in entries if child not in chosen and is_attestation(child, taken)]
    await _take(made, [*chosen, *attached], read, 0)
    return made


async def only(index: Manifest, wish: Platform, read: Read) -> Manifest:
    """The one image of an index that serves this platform. Raises as `plan`."""
    chosen = _chosen(await _entries(Plan(index), index, read, 0), [wish])
    if len(chosen) != 1:
        raise ManifestUnknown(f"no matching manifest for {wish} in the manifest list entries: they name no platform")
    return await read(chosen[0].descriptor)


def is_attestation(child: Child, subjects: frozenset[str] | set[str] | None = None) -> bool:
    """Whether this child of an index says something of another one: of one of `subjects`, if they are given."""
    if child.annotations.get(_KIND) != _ATTESTATION:
        return False
    return subjects is None or child.annotations.get(_SUBJECT) in subjects


async def _entries(made: Plan, index: Manifest, read: Read, depth: int) -> list[Child]:
    """The manifests that may be chosen from: an index without a platform of its own stands for what is in it."""
    found: list[Child] = []
    for child in index.children():
        if child.role is not Role.MANIFEST or child.descriptor.media_type not in MANIFEST_TYPES:
            continue
        if child.descriptor.media_type in INDEX_TYPES and _platform(child) is None and depth < _DEEPEST:
            inner = await read(child.descriptor)
            made.add(inner)
            found += await _entries(made, inner, read, depth + 1)
        else:
            found.append(child)
    return found


def _chosen(entries: Sequence[Child], wishes: Sequence[Platform] | None) -> list[Child]:
    if wishes is None:
        return list(entries)
    images = [child for child in entries if not is_attestation(child)]
    offered = [(child, platform) for child in images if (platform := _platform(child)) is not None]
    if not offered:
        return images  # nothing to choose by: an index of artifacts
    chosen: list[Child] = []
    missing: list[str] = []
    for wish in wishes:
        child = best(wish, offered)
        if child is None:
            missing.append(str(wish))
        elif child not in chosen:
            chosen.append(child)
    if missing:
        there = ", ".join(dict.fromkeys(str(child.platform) for child, _ in offered))
        raise ManifestUnknown(
            f"no matching manifest for {', '.join(missing)} in the manifest list entries: there are {there}"
        )
    return chosen


async def _take(made: Plan, children: Sequence[Child], read: Read, depth: int) -> None:
    """These manifests, and of those that are indices all there is in them."""
    manifests = await each([child.descriptor for child in children], read, _AT_ONCE)
    for child, manifest in zip(children, manifests, strict=True):
        made.add(manifest, shown=not is_attestation(child))
        if manifest.is_index and depth < _DEEPEST:
            inner = [each_ for each_ in manifest.children() if each_.role is Role.MANIFEST]
            await _take(made, inner, read, depth + 1)


def _platform(child: Child) -> Platform | None:
    return None if child.platform == _UNKNOWN else written(child.platform)

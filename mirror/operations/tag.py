"""`tag`: another name for an image that is held. No bytes move, and no registry is told (design.md §5, "Own names").

A target without a registry is the mirror's own repository, made where nobody's public name is hidden by it; or, where
the default registry's repository of that name holds this very image here, that one. In an upstream repository a tag may
name only what is linked there, under a name that its registry lacks; it then stands until it is removed here, also if
the registry has a tag of that name later on.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from mirror.cache.manifests import Manifests
from mirror.cache.names import Names
from mirror.cache.ownership import Ownership
from mirror.cache.policy import Policy
from mirror.cache.proofs import Proofs
from mirror.cache.rights import Action, Principal, Rights
from mirror.cache.sight import Sight
from mirror.cache.tags import Tags
from mirror.clock import Clock
from mirror.errors import Conflict, Denied, RequestInvalid, UpstreamError, UpstreamGone
from mirror.oci.digest import Digest
from mirror.oci.names import LOCAL, Reference, Repository, is_registry, split_reference
from mirror.operations.composition import Composition
from mirror.operations.resolve import Resolver, no_such_image
from mirror.store import inventory, protocols
from mirror.store.inventory import ImageRow, View
from mirror.store.protocols import Origin
from mirror.tasks import Tasks
from mirror.upstream.protocols import Source

ASK_WITHIN = 15.0  # seconds that a registry has to say whether it has a tag


class Catalog(protocols.Tags, protocols.Links, inventory.Lifecycle, Protocol):
    """The parts of the catalog that this verb uses."""


@dataclass(frozen=True, slots=True)
class Tagged:
    """The name, canonical, and the digest that it names from now on."""

    name: str
    digest: str


class Tag:
    """The verb."""

    def __init__(
        self,
        *,
        resolver: Resolver,
        composition: Composition,
        names: Names,
        ownership: Ownership,
        rights: Rights,
        sight: Sight,
        proofs: Proofs,
        policy: Policy,
        catalog: Catalog,
        tags: Tags,
        manifests: Manifests,
        tasks: Tasks,
        clock: Clock,
    ) -> None:
        self._resolver = resolver
        self._composition = composition
        self._names = names
        self._ownership = ownership
        self._rights = rights
        self._sight = sight
        self._proofs = proofs
        self._policy = policy
        self._catalog = catalog
        self._tags = tags
        self._manifests = manifests
        self._tasks = tasks
        self._clock = clock

    async def tag(self, principal: Principal, source: str, target: str) -> Tagged:
        """Let `target` name the image `source`.

        Raises `ManifestUnknown` ("No such image") for a source that is not held or that he may not see, `NameInvalid`
        or `RequestInvalid` for a target that is none, `Denied` where the name may not be made or he may not make it,
        `Conflict` where the image is not here as a whole.
        """
        name, tag, digest = split_reference(target)
        if digest is not None or tag is None:
            raise RequestInvalid("refusing to create a tag with a digest reference")
        rows = (await self._resolver.find(principal, source)).rows
        home, row = await self._home(principal, name, rows)
        reference = Reference(home, tag, None)
        if home.is_own:
            row = await self._whole(principal, [row, *rows])
        elif row.repository == home and row.tag == tag:
            return Tagged(str(reference), str(row.manifest))  # it has that name, from its registry or from here
        else:
            await self._check_free(principal, reference, row.manifest)
        whence = self._composition.view(principal, row.repository)
        if not await self._tasks.finish("tag", self._set(home, tag, row.manifest, principal.actor, whence)):
            raise no_such_image(source)  # it was there just now
        return Tagged(str(reference), str(row.manifest))

    async def _set(self, home: Repository, tag: str, digest: Digest, actor: str, whence: View) -> bool:
        """Write it down, and forget what was known before."""
        done = await self._catalog.set_tag(home, tag, digest, self._clock.wall(), actor, whence)
        self._tags.forget(home, tag)
        self._manifests.forget(home, digest)
        if done and home.is_own:
            self._ownership.made(home)
        return done

    async def _home(self, principal: Principal, name: str, rows: tuple[ImageRow, ...]) -> tuple[Repository, ImageRow]:
        """The repository that the target lies in, once he may put something there, and the image that it is to name."""
        first, slash, _ = name.partition("/")
        if slash and is_registry(first):
            upstream = self._names.repository(Repository.parse(name).name, "")
            self._rights.require(principal, Action.PUSH, upstream)
            return upstream, _preferred(rows, upstream)
        own = Repository(LOCAL, name)
        if not self._ownership.is_own(name) and not self._ownership.declares(name):
            public = self._ownership.hidden(name)
            for row in rows:
                if await self._is_linked(principal, public, row.manifest):
                    self._rights.require(principal, Action.PUSH, public)
                    return public, row
        self._rights.require(principal, Action.PUSH, own)
        return await self._ownership.permit(name), _preferred(rows, own)

    async def _is_linked(self, principal: Principal, repository: Repository, digest: Digest) -> bool:
        """Whether the repository holds this manifest, as far as he may know."""
        holding = await self._catalog.holding(repository, digest, is_manifest=True)
        link = holding.link if holding is not None else None
        return link is not None and self._sight.sees_link(principal, repository, link)

    async def _whole(self, principal: Principal, rows: Sequence[ImageRow]) -> ImageRow:
        """The first of these rows whose repository has all of the image, as far as he may see it there: what an own
        repository does not take from it (`Lifecycle.set_tag`) it gets from nowhere."""
        for row, made in zip(rows, await self._composition.of(principal, rows), strict=True):
            if made.complete:
                return row
        name = self._resolver.name(rows[0])
        raise Conflict(f"{name} is not here as a whole, and an own image comes from nowhere else: pull it first")

    # --- inside an upstream repository -------------------------------------------------------------------------

    async def _check_free(self, principal: Principal, reference: Reference, digest: Digest) -> None:
        """Whether a tag set by hand may stand there under that name."""
        repository = reference.repository
        said = self._names.familiar(repository)
        if not await self._is_linked(principal, repository, digest):
            raise Denied(
                f"{said} does not have {digest.short}: a tag set here inside a registry's repository may only name what"
                " came from there; without a registry, as in team/app, the name is this mirror's own"
            )
        if self._policy.offline:
            taken = await self._was_there(reference)
        else:
            taken = await self._is_there(reference)
        if taken:
            raise Denied(f"{repository.registry} has a tag {reference.tag} of {said} itself: choose another one")

    async def _was_there(self, reference: Reference) -> bool:
        """Whether the registry had the tag when it was last asked."""
        row = await self._catalog.tag(reference.repository, str(reference.target))
        return row is not None and row.origin is Origin.UPSTREAM and row.gone_at is None

    async def _is_there(self, reference: Reference) -> bool:
        """Whether the registry has the tag. Raises `Denied` where it does not say."""
        repository = reference.repository

        async def ask(source: Source) -> None:
            if await source.head(reference) is None:
                await source.manifest(reference)

        why = f"{repository.registry} gave no answer in time"
        try:
            async with asyncio.timeout(ASK_WITHIN):
                sources = await self._proofs.sources(repository, trusted=True)
                await self._proofs.first(sources, repository, ("manifest", str(reference.target)), ask, anew=True)
        except UpstreamGone:
            return False
        except UpstreamError as error:
            why = error.message
        except TimeoutError:
            pass
        else:
            return True
        raise Denied(
            f"whether {repository.registry} has a tag {reference.tag} itself could not be asked ({why}): try again"
            " later, or use a name without a registry, as in team/app"
        )


def _preferred(rows: tuple[ImageRow, ...], home: Repository) -> ImageRow:
    """Of several images with one ID that which this repository has."""
    return next((row for row in rows if row.repository == home), rows[0])

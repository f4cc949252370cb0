"""The verbs and their routes: one operation, one resource of `/api/v1/` for each."""

import asyncio
import contextlib
from functools import partial
from pathlib import Path

from mirror.application.core import Core
from mirror.operations.catalog import Held
from mirror.operations.composition import Composition
from mirror.operations.configs import Configs
from mirror.operations.df import Df
from mirror.operations.gathering import Sources as PushSources
from mirror.operations.image import Inspection, Selection
from mirror.operations.images import Describer, ImageList
from mirror.operations.layers import Layers
from mirror.operations.logins import Logins
from mirror.operations.misses import MissList
from mirror.operations.offline import Switch
from mirror.operations.pins import Pins
from mirror.operations.prune import Prune
from mirror.operations.pull import Pull, Sources
from mirror.operations.push import Push
from mirror.operations.queue import Queue
from mirror.operations.remove import Remove
from mirror.operations.repair import Repair
from mirror.operations.resolve import Resolver
from mirror.operations.search import Search
from mirror.operations.status import Status
from mirror.operations.tag import Tag
from mirror.operations.tags import TagList
from mirror.operations.users import UserAccounts
from mirror.operations.verify import Verify
from mirror.server.api import df as df_resource
from mirror.server.api import image as image_resource
from mirror.server.api import images as images_resource
from mirror.server.api import layers as layers_resource
from mirror.server.api import logins as logins_resource
from mirror.server.api import misses as misses_resource
from mirror.server.api import offline as offline_resource
from mirror.server.api import openapi
from mirror.server.api import pins as pins_resource
from mirror.server.api import prune as prune_resource
from mirror.server.api import pull as pull_resource
from mirror.server.api import push as push_resource
from mirror.server.api import queue as queue_resource
from mirror.server.api import remove as remove_resource
from mirror.server.api import search as search_resource
from mirror.server.api import status as status_resource
from mirror.server.api import tag as tag_resource
from mirror.server.api import tags as tags_resource
from mirror.server.api import users as users_resource
from mirror.server.api import verify as verify_resource
from mirror.server.api.endpoint import Endpoint


def endpoints(core: Core, *, status: Status, held: Held, search: Search) -> list[Endpoint]:
    """Every route of `/api/v1/`, `/openapi.json` included. What other doors show too is given: `status`, `held`,
    `search`."""
    configs = Configs(catalog=core.catalog, store=core.store)
    composition = Composition(catalog=core.catalog, configs=configs, rights=core.rights)
    resolver = Resolver(catalog=core.catalog, rights=core.rights, sight=core.sight, names=core.names)
    resources = [
        *status_resource.endpoints(status, core.sight),
        *search_resource.endpoints(search),
        *_reading(core, configs, composition, resolver),
        *_keeping(core, resolver),
        *_moving(core, composition, resolver),
        *_sending(core),
        *logins_resource.endpoints(Logins(core.upstreams, core.outbox.logged_in)),
        *misses_resource.endpoints(MissList(catalog=core.catalog, sight=core.sight)),
        *offline_resource.endpoints(Switch(policy=core.policy, tasks=core.tasks, look=core.upstreams.probe)),
        *users_resource.endpoints(UserAccounts(core.users)),
    ]
    return [*resources, openapi.endpoint(resources)]


def _reading(core: Core, configs: Configs, composition: Composition, resolver: Resolver) -> list[Endpoint]:
    """What shows images: lists, one image, its layers, tags, what they take."""
    size = partial(asyncio.to_thread, _catalog_size, core.settings.data)
    describer = Describer(catalog=core.catalog, composition=composition, names=core.names)
    selection = Selection(resolver=resolver, composition=composition)
    images = ImageList(
        catalog=core.catalog,
        describer=describer,
        composition=composition,
        configs=configs,
        resolver=resolver,
        sight=core.sight,
        names=core.names,
        uses=core.uses,
        clock=core.clock,
    )
    inspection = Inspection(
        catalog=core.catalog,
        manifests=core.manifests,
        selection=selection,
        describer=describer,
        configs=configs,
        sight=core.sight,
        names=core.names,
    )
    tags = TagList(
        catalog=core.catalog,
        listings=core.listings,
        describer=describer,
        rights=core.rights,
        sight=core.sight,
        names=core.names,
        policy=core.policy,
    )
    return [
        *images_resource.endpoints(images),
        *df_resource.endpoints(
            Df(catalog=core.catalog, store=core.store, images=images, catalog_size=size, clock=core.clock)
        ),
        *image_resource.endpoints(inspection),
        *layers_resource.endpoints(Layers(catalog=core.catalog, selection=selection, sight=core.sight)),
        *tags_resource.endpoints(tags),
    ]


def _keeping(core: Core, resolver: Resolver) -> list[Endpoint]:
    """What brings, checks and keeps images, and makes room."""
    sources = Sources(
        names=core.names,
        rights=core.rights,
        proofs=core.proofs,
        tags=core.tags,
        manifests=core.manifests,
        content=core.content,
        listings=core.listings,
        catalog=core.catalog,
        clock=core.clock,
    )
    prune = Prune(
        catalog=core.catalog,
        store=core.store,
        eviction=core.eviction,
        sweep=core.sweep,
        uses=core.uses,
        rights=core.rights,
        names=core.names,
        clock=core.clock,
    )
    verify = Verify(
        store=core.store,
        catalog=core.catalog,
        leases=core.leases,
        sweep=core.sweep,
        repair=Repair(catalog=core.catalog, content=core.content, manifests=core.manifests, sight=core.sight),
        resolver=resolver,
        tasks=core.tasks,
        clock=core.clock,
    )
    pins = Pins(
        catalog=core.catalog,
        resolver=resolver,
        rights=core.rights,
        sight=core.sight,
        names=core.names,
        clock=core.clock,
    )
    return [
        *pull_resource.endpoints(Pull(sources, core.tasks)),
        *verify_resource.endpoints(verify),
        *prune_resource.endpoints(prune),
        *pins_resource.endpoints(pins),
    ]


def _moving(core: Core, composition: Composition, resolver: Resolver) -> list[Endpoint]:
    """What gives names and takes them."""
    tag = Tag(
        resolver=resolver,
        composition=composition,
        names=core.names,
        ownership=core.ownership,
        rights=core.rights,
        sight=core.sight,
        proofs=core.proofs,
        policy=core.policy,
        catalog=core.catalog,
        tags=core.tags,
        manifests=core.manifests,
        tasks=core.tasks,
        clock=core.clock,
    )
    remove = Remove(
        resolver=resolver,
        composition=composition,
        names=core.names,
        rights=core.rights,
        catalog=core.catalog,
        tags=core.tags,
        manifests=core.manifests,
        collector=core.sweep,
        tasks=core.tasks,
        clock=core.clock,
    )
    return [*tag_resource.endpoints(tag), *remove_resource.endpoints(remove)]


def _sending(core: Core) -> list[Endpoint]:
    """What sends images to registries."""
    sources = PushSources(
        names=core.names,
        rights=core.rights,
        sight=core.sight,
        proofs=core.proofs,
        tags=core.tags,
        manifests=core.manifests,
        content=core.content,
        leases=core.leases,
        transfers=core.transfers,
        upstreams=core.upstreams,
        catalog=core.catalog,
        clock=core.clock,
    )
    return [
        *push_resource.endpoints(Push(sources, core.tasks)),
        *queue_resource.endpoints(Queue(outbox=core.outbox, sight=core.sight)),
    ]


def _catalog_size(data: Path) -> int:
    """Bytes of the catalog's files."""
    size = 0
    for name in ("mirror.db", "mirror.db-wal", "mirror.db-shm"):
        with contextlib.suppress(FileNotFoundError):
            size += (data / name).stat().st_size
    return size

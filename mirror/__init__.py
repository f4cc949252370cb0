"""mirror: a local, layer-deduplicating cache and mirror for container images.

The map, from the top; each room imports only downward (`pyproject.toml`, import-linter):

- `cli`          click commands; a thin client of `/api/v1/`. `cli.local` alone starts a server in-process
- `application`  the one module that names concrete classes: builds, starts, stops, wires
- `server`       aiohttp handlers: `/v2/` (registry), `/api/v1/`, metrics
- `operations`   one file per verb: what a person or the API asks for
- `cache`        what makes it a mirror: flights, tags, proofs, rights, content
- `upstream`     the client of other registries
- `store`        bytes and facts at rest: blobs on disk, the catalog in SQLite
- `config`, `tasks`, `clock`; `docker_config`: docker's `config.json`, shared with the command line
- `oci`          the protocol: names, digests, manifests, routes, ranges, challenges; pure
- `errors`       one error tree, one table of codes

Follow a blob: `oci.routes.parse` → `server.registry.blobs` → `cache.content` → `cache.flights` → `server.send`.
"""

__version__ = "0.1.0"

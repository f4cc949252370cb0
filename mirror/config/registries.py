"""The well-known registries, configured out of the box: canonical name → base URL.

Each is a registry of public images that speaks the distribution API at that URL. Nobody needs to write one of these
down; a section of that name in the settings changes only the keys it holds, `enabled = false` among them.
"""

from collections.abc import Mapping
from types import MappingProxyType

_SAME_HOST = (
    "cgr.dev",
    "codeberg.org",
    "container-registry.oracle.com",
    "dhi.io",
    "docker.elastic.co",
    "gcr.io",
    "ghcr.io",
    "icr.io",
    "k8s.gcr.io",
    "lscr.io",
    "mcr.microsoft.com",
    "mirror.gcr.io",
    "nvcr.io",
    "public.ecr.aws",
    "quay.io",
    "registry.access.redhat.com",
    "registry.fedoraproject.org",
    "registry.gitlab.com",
    "registry.k8s.io",
    "registry.opensuse.org",
    "registry.redhat.io",
    "registry.suse.com",
    "xpkg.upbound.io",
)

WELL_KNOWN: Mapping[str, str] = MappingProxyType(
    {"docker.io": "https://registry-1.docker.io", **{name: f"https://{name}" for name in _SAME_HOST}}
)

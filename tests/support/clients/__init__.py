"""The programs that people pull with, each with folders, configuration and daemons of its own.

Nothing they do touches the machine's own docker, containerd or podman, and `close` (or leaving the context) leaves
no process, mount, control group or file. Every call returns stdout and raises `CommandError` with stderr. Whatever
would go to a public registry is sent to a proxy that refuses at once: no test waits for an internet it has not.
"""

from tests.support.clients.client import Client
from tests.support.clients.containers_image import Buildah, ContainersImage, Podman, Skopeo
from tests.support.clients.daemons import Containerd, Dockerd

__all__ = ["Buildah", "Client", "Containerd", "ContainersImage", "Dockerd", "Podman", "Skopeo"]

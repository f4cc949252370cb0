"""Where a mirror's own socket lies. Not in the data directory: a socket's path ends at 108 bytes (unix(7))."""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

SYSTEM_DATA = Path("/var/lib/mirror")


def socket_path(chosen: Path | None, data: Path, environ: Mapping[str, str], uid: int | None = None) -> Path:
    """The configured path, else `mirror.sock` for the system's own data directory, else one named after the data
    directory, in systemd's RUNTIME_DIRECTORY, /run/mirror (root), $XDG_RUNTIME_DIR/mirror or /tmp/mirror-UID."""
    if chosen is not None:
        return chosen
    uid = os.geteuid() if uid is None else uid
    data = data.absolute()
    name = "mirror" if data == SYSTEM_DATA else hashlib.sha256(os.fsencode(data)).hexdigest()[:16]
    return _folder(environ, uid) / f"{name}.sock"


def _folder(environ: Mapping[str, str], uid: int) -> Path:
    if runtime := environ.get("RUNTIME_DIRECTORY"):
        return Path(runtime.partition(":")[0])
    if uid == 0:
        return Path("/run/mirror")
    if runtime := environ.get("XDG_RUNTIME_DIR"):
        return Path(runtime) / "mirror"
    return Path(f"/tmp/mirror-{uid}")  # noqa: S108 - made 0700, and its owner is checked by the mode of what is in it

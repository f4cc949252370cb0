"""What every client has."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.leftovers import remove_control_groups, unmount_below
from tests.support.netns import Namespace
from tests.support.processes import SESSION, end_processes, processes_naming, run, scratch_folder

TIMEOUT_S = 180.0

_REFUSING_PROXY = "http://127.0.0.1:1"
_OUR_ADDRESS = re.compile(r"\|-- (\S+)\n +/32 host LOCAL")


def _offline() -> dict[str, str]:
    """Whatever is not on this machine is out of reach, at once. 10.0.0.0/8 is where our namespaces are."""
    ours = set(_OUR_ADDRESS.findall(Path("/proc/net/fib_trie").read_text()))
    near = ",".join(["localhost", "127.0.0.0/8", "::1", "10.0.0.0/8", *sorted(ours)])
    return {"HTTP_PROXY": _REFUSING_PROXY, "HTTPS_PROXY": _REFUSING_PROXY, "NO_PROXY": near}


class Client:
    """What all of them share: a folder, an environment, perhaps another network."""

    def __init__(self, name: str, inside: Namespace | None = None) -> None:
        self.folder = scratch_folder(name)
        self.timeout = TIMEOUT_S
        self._prefix = inside.prefix if inside is not None else []
        self._name = f"mt-{SESSION}-{self.folder.name}"
        (self.folder / "tmp").mkdir()
        self._environment = {**_offline(), "HOME": str(self.folder), "TMPDIR": str(self.folder / "tmp")}

    def start(self) -> Self:
        """Start what runs in the background, if anything does."""
        return self

    def stop(self) -> None:
        """Stop what runs in the background; images stay."""

    def close(self) -> None:
        """Stop, and remove everything that this client has made, also what a crashed daemon left behind."""
        self.stop()
        end_processes(lambda: processes_naming(self.folder))
        remove_control_groups(self._name)
        unmount_below(self.folder)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _run(self, *arguments: str, stdin: str | None = None) -> str:
        return run([*self._prefix, *arguments], extra_environment=self._environment, stdin=stdin, timeout=self.timeout)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

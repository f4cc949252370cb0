"""`make install` into a folder: the same command that people have, and nothing of this machine is touched."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
UNIT = "usr/local/lib/systemd/system/mirror.service"


@dataclass(frozen=True, slots=True)
class Installed:
    """What lies below a folder that `make install DESTDIR=folder` filled."""

    folder: Path

    @property
    def command(self) -> Path:
        return self.folder / "usr/local/bin/mirror"

    @property
    def opt(self) -> Path:
        return self.folder / "opt/mirror"

    @property
    def settings(self) -> Path:
        return self.folder / "etc/mirror/mirror.toml"

    @property
    def unit(self) -> Path:
        return self.folder / UNIT

    def environments(self) -> list[str]:
        """Those that lie there, in use or not."""
        return sorted(path.name for path in self.opt.glob("venv-*")) if self.opt.is_dir() else []

    def run(self, *words: str) -> str:
        """What `mirror WORDS…` prints."""
        return subprocess.run(
            [self.command, *words], capture_output=True, text=True, timeout=60, check=True, cwd=self.folder
        ).stdout


def make(target: str, folder: Path, source: Path = ROOT, **variables: str) -> subprocess.CompletedProcess[str]:
    """`make install` or `uninstall` below `folder`; `variables` are of the environment."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    return subprocess.run(
        ["make", target, f"DESTDIR={folder}"],
        cwd=source,
        env={**environment, **variables},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )

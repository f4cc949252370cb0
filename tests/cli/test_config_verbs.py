from pathlib import Path

import pytest
from click.testing import CliRunner

from mirror.cli import local, main
from mirror.errors import ConfigInvalid


def answer(config: Path | None) -> str:
    if config == Path("wrong"):
        raise ConfigInvalid("wrong: x: no such key\nwrong: y: no such key")
    return f"about {config}\n"


@pytest.mark.parametrize("verb", ["check", "show"])
def test_results_and_problems(verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, f"{verb}_config", answer)
    right = CliRunner().invoke(main, ["config", verb, "--config", "file"])
    assert (right.exit_code, right.stdout.rstrip("\n"), right.stderr) == (0, "about file", "")
    wrong = CliRunner().invoke(main, ["config", verb, "--config", "wrong"])
    assert (wrong.exit_code, wrong.stdout) == (2, "")
    assert wrong.stderr == "mirror: wrong: x: no such key\nmirror: wrong: y: no such key\n"

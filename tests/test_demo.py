"""`make demo` runs, tells the truth, ends in time and leaves nothing."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks import demo

ROOT = Path(__file__).parents[1]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {**os.environ, "TMPDIR": str(tmp_path), "HTTP_PROXY": "http://192.0.2.1:1", "MIRROR_OFFLINE": "true"}


def test_it_shows_what_crossed_the_wire(environment: dict[str, str], tmp_path: Path) -> None:
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.demo"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - start < demo.DEADLINE_S
    rows = [re.split(r"\s{2,}", line) for line in done.stdout.splitlines() if re.search(r"\d\.\d\d$", line)]
    assert [row[1] for row in rows] == ["8", "1", "1"]
    cold, warm, stopped = rows
    assert (cold[3], cold[4]) == ("21MB", "168MB")
    assert (warm[3], warm[4]) == ("0B", "21MB")
    assert stopped[2:5] == ["0", "0B", "21MB"]
    assert list(tmp_path.iterdir()) == []


def test_a_mirror_that_does_not_start_is_a_failure_that_says_why(
    environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "_environment", lambda _: environment)
    monkeypatch.setattr(demo, "_settings", lambda *_: "wrong = true")
    with pytest.raises(demo.DemoError, match="exit code 2") as caught:
        demo.demonstrate(tmp_path)
    assert "no such key" in str(caught.value)


def test_the_image_is_the_same_each_time() -> None:
    assert demo.make_image() == demo.make_image()

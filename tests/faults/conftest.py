"""Faults at full speed: what the mirror waits between two attempts is cut short, nothing else."""

import pytest

from mirror.cache import flight


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flight, "_FIRST_PAUSE", 0.01)
    monkeypatch.setattr(flight, "_LONGEST_PAUSE", 0.05)

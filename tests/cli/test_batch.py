import pytest

from mirror import errors
from mirror.cli.batch import Batch, PartFailed
from tests.cli.scripted import failed


def test_what_is_no_failure_is_not_taken() -> None:
    batch = Batch(1)
    assert not batch.take({"event": "layer"})
    assert not batch.take({"event": "end", "ok": 1, "failed": 0})
    batch.end()


def test_one_thing_that_failed_is_its_own_error() -> None:
    batch = Batch(1)
    assert batch.take(failed("docker.io/library/x:1", "not there", 4))
    with pytest.raises(errors.NameUnknown, match=r"^not there$"):
        batch.end()


def test_part_of_a_batch_is_listed_and_exits_3() -> None:
    batch = Batch(3)
    batch.take(failed("docker.io/library/x:1", "not there", 4))
    batch.take(failed("docker.io/library/y:1", "y:1: refused", 5))
    with pytest.raises(PartFailed) as caught:
        batch.end()
    assert caught.value.exit_code == 3
    assert caught.value.message == "2 of 3 failed:\n  x:1: not there\n  y:1: refused"


def test_one_name_may_stand_for_many_images() -> None:
    batch = Batch(1)
    for _ in range(2):
        batch.take({"event": "image", "name": "x"})
    batch.take(failed("x", "not there", 4))
    with pytest.raises(PartFailed, match="1 of 2 failed"):
        batch.end()


def test_an_end_that_counts_a_failure_that_nobody_told_of() -> None:
    batch = Batch(1)
    batch.take({"event": "end", "ok": 0, "failed": 1})
    with pytest.raises(errors.MirrorError, match="did not say what"):
        batch.end()

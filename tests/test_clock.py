import time

from mirror.clock import Clock


def test_it_tells_the_machines_time() -> None:
    clock = Clock()
    assert abs(clock.wall() - time.time()) < 1
    assert abs(clock.monotonic() - time.monotonic()) < 1


def test_the_two_clocks_move_apart() -> None:
    clock = Clock()
    wall, monotonic = clock.wall(), clock.monotonic()
    clock.wall_shift = -3600
    assert clock.wall() < wall - 3500
    assert 0 <= clock.monotonic() - monotonic < 60
    clock.shift = 3600
    assert clock.monotonic() - monotonic >= 3600


def test_age_is_believed_only_from_the_past() -> None:
    clock = Clock()
    written_at = clock.wall()
    age = clock.age(written_at)
    assert age is not None
    assert 0 <= age < 60
    clock.wall_shift = -10  # the clock was set back: what is written lies in the future
    assert clock.age(written_at) is None
    clock.wall_shift = 10
    age = clock.age(written_at)
    assert age is not None
    assert 10 <= age < 70

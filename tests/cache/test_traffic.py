from mirror.cache.traffic import Traffic


def test_the_ratio_counts_hits_among_all() -> None:
    traffic = Traffic()
    assert (traffic.requests, traffic.hit_ratio) == (0, None)
    traffic.hits, traffic.misses = 3, 1
    assert (traffic.requests, traffic.hit_ratio) == (4, 0.75)


def test_bytes_are_counted_by_registry() -> None:
    traffic = Traffic()
    traffic.served["docker.io"] += 5
    traffic.served["docker.io"] += 7
    assert (traffic.served["docker.io"], traffic.served["ghcr.io"]) == (12, 0)

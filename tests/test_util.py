"""What every module may use."""

import numpy as np

from util import BoundedCache


def test_the_cache_computes_again_only_what_does_not_fit():
    computed = []
    cache = BoundedCache(lambda i: computed.append(i) or np.zeros(100, np.uint8), most=300)
    for i in (0, 1, 2, 0, 3, 0, 1):
        assert cache[i].nbytes == 100
    assert computed == [0, 1, 2, 3, 1]  # 1 was the least recently used when 3 came
    assert len(cache) == 3
    cache.forget(0)
    assert 0 not in cache and 1 in cache and cache.total == 200
    counted = BoundedCache(str, most=3, size=lambda _: 1)
    assert [counted[i] for i in range(5)] == list("01234") and len(counted) == 3

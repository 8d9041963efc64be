"""Worst cases that are known exactly: gallery R1 (Robson's adversary against fits) and R2 (Knuth's against buddies).

Sources: J. M. Robson, "An estimate of the store size necessary for dynamic storage allocation", JACM 18 (1971),
416-423, and JACM 21 (1974), 491-499; Knuth, TAOCP vol. 1, section 2.5, exercise 41.
"""

import numpy as np
import pytest

import vecalloc as va

FITS = ("first-fit", "best-fit", "worst-fit", "next-fit")
PUBLISHED = {2: 767, 4: 1021, 8: 1273, 16: 1521, 32: 1761, 64: 1985}


def bound(most, n):
    """What any allocator that does not move blocks may need for at most `most` live in blocks of 1, 2, 4, ..., n."""
    return most + most * (n.bit_length() - 1) // 2 - n + 1


def robson(pool, most, n):
    """Robson's adversary: keep just those blocks that spoil the most places for the next, twice as large, blocks.

    A block *occupies* f (modulo 2^i) if one of its addresses is f modulo 2^i.
    """
    starts, sizes, f = pool.alloc_many(np.ones(most, np.int64)), np.ones(most, np.int64), 0
    for i in range(1, n.bit_length()):
        size = 1 << i

        def occupiers(f, size=size):
            return (f - starts) % size < sizes  # noqa: B023

        f = max((f, f + size // 2), key=lambda f: int((size - sizes[occupiers(f)]).sum()))  # ties to the first, f
        kept = occupiers(f)
        pool.free_many(starts[~kept])
        starts, sizes = starts[kept], sizes[kept]
        more = np.full((most - sizes.sum()) // size, size)
        starts, sizes = np.append(starts, pool.alloc_many(more)), np.append(sizes, more)
        assert sizes.sum() <= most and pool.stats()["live_requested"] == sizes.sum()


@pytest.mark.parametrize("policy", FITS)
@pytest.mark.parametrize("n", PUBLISHED)
def test_robson_published(policy, n):
    pool = va.Pool(512, policy, granule=1, on_failure="grow")
    robson(pool, 512, n)
    stats = pool.stats()
    assert stats["high_water_mark"] == PUBLISHED[n] == bound(512, n)
    assert stats["peak_live"] <= 512 and not any(stats["failures"].values())


@pytest.mark.parametrize("policy", FITS)
@pytest.mark.parametrize("start", [1, 7, 4096], ids="initial-{}".format)
@pytest.mark.parametrize("most", [2, 4, 8, 16, 32, 64, 128, 256])
def test_robson_bound(policy, start, most):
    """The same for smaller M; the initial size of a pool that grows does not matter."""
    n = 2
    while n <= most // 8 or n == 2:
        pool = va.Pool(start, policy, granule=1, on_failure="grow")
        robson(pool, most, n)
        assert pool.stats()["high_water_mark"] == bound(most, n), (most, n)
        n *= 2


@pytest.mark.jitless
@pytest.mark.filterwarnings(
    "ignore:overflow encountered in scalar:RuntimeWarning"
)  # plain Python: words wrap on purpose
@pytest.mark.parametrize("order", ["lowest", "lifo"])
@pytest.mark.parametrize("on_failure", ["drop", "grow"])
@pytest.mark.parametrize("r", range(1, 9))
def test_buddy_adversary(order, on_failure, r):
    """n = 2^(r+1) live at most, yet (1 + r/2) n are used."""
    n = 2 << r
    uses = n + r * n // 2
    size = 1 << (uses - 1).bit_length() if on_failure == "drop" else n
    pool = va.Pool(size, "buddy", granule=1, order=order, on_failure=on_failure)
    starts = pool.alloc_many(np.ones(n, np.int64))
    for k in range(1, r + 1):
        kept = starts % (1 << k) == 0
        pool.free_many(starts[~kept])
        starts = np.append(starts[kept], pool.alloc_many(np.full(n >> (k + 1), 1 << k)))
        assert pool.stats()["live_requested"] <= n and starts.min() >= 0
    stats = pool.stats()
    assert stats["high_water_mark"] == uses
    assert stats["peak_live"] <= n

"""How much memory does a budget for moving blocks save against Robson's adversary?

    python experiments/robson_compaction.py        a minute: results/robson_compaction/

Robson's adversary (1971) has at most M granules live, in blocks of 1, 2, 4, ..., n granules. It keeps just those blocks
that spoil the most places for the next, twice as large, ones, and frees the rest:

    11111111  ->  1.1.1.12222  ->  1...1..224444       M = 8: 13 granules for 8

Where no block moves, first, best, worst and next fit need M + (M / 2) log2 n - n + 1 granules, and no policy that does
not move blocks gets by with less. Here a pass of compaction comes before the pool would grow, if the budget allows it:
at any time c times the granules moved are at most the granules allocated before (Bendersky and Petrank 2012 call this
c-partial). The adversary follows the blocks that moved and goes on from where they are.

Two limits to compare with. Whoever may move what it likes needs M granules. With a budget of c, (c + 1) M are enough
for this adversary and any other: slide all blocks together whenever the end is reached; what is live is at most M, and
c M have been allocated since the last time.

A slide moves nearly M / 2 granules, and all that the adversary ever asks for is (1 + (log2 n) / 2) M: where c is
2 + log2 n or more there is never a pass. Two fingers are little better. A first window moves only what stands in the
way of the request at hand, so that any budget helps.

This adversary was made against blocks that stay. Another one, which knows the budget, may need more memory than this.
"""

import itertools
from importlib.util import find_spec
from typing import Any

import numpy as np

import vecalloc as va

MOST, LARGEST = 1 << 12, 64
"""M and n: granules that are live at once, and in the largest block."""

FITS = ("first-fit", "best-fit", "worst-fit", "next-fit")
WAYS = ("slide", "two-finger", "first-window")
BUDGETS = (1.25, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64, 128, 256)


def bound(most: int, largest: int) -> int:
    """Granules that any policy may need if it moves no block."""
    return most + most * (largest.bit_length() - 1) // 2 - largest + 1


def robson(pool: va.Pool, most: int, largest: int) -> None:
    """Robson's adversary against a pool that grows, of granule 1.

    A block *occupies* f modulo 2^i if one of its addresses is f modulo 2^i. Those blocks are kept that do, for one of
    the two f that agree with the last one modulo 2^(i - 1).
    """
    sizes, f = np.ones(most, np.int64), 0
    starts = pool.alloc_many(sizes)
    for i in range(1, largest.bit_length()):
        size = 1 << i
        occupying = {g: (g - starts) % size < sizes for g in (f, f + size // 2)}
        spoilt = {g: int((size - sizes[kept]).sum()) for g, kept in occupying.items()}
        f = max(spoilt, key=spoilt.__getitem__)  # ties to the first
        kept = occupying[f]
        pool.free_many(starts[~kept])
        starts, sizes = starts[kept], sizes[kept]
        more = np.full((most - sizes.sum()) // size, size)
        placed = pool.alloc_many(more)
        starts = np.append(_followed(starts, pool.moved), placed)
        sizes = np.append(sizes, more)


def _followed(starts: np.ndarray, moved: np.ndarray) -> np.ndarray:
    """Where the blocks are now."""
    if not len(moved):
        return starts
    k = np.searchsorted(moved[:-1, 0], starts)
    return np.where(moved[k, 0] == starts, moved[k, 1], starts)


def measure(policy: str, how: str, budget: float | None, most: int, largest: int) -> dict[str, Any]:
    """A row of the table.

    how = "none": no block moves; budget None: no limit. memory_ratio is the high-water mark over M; longest_pass is in
    granules; the others are the metrics of these names.
    """
    limit = "" if budget is None else f",budget={budget}"
    reclaim = "none" if how == "none" else f"compact[how={how}{limit}]"
    pool = va.Pool(most, policy, granule=1, on_failure="grow", reclaim=reclaim)
    robson(pool, most, largest)
    stats = pool.stats()
    assert stats["peak_live"] <= most
    return {
        "policy": policy,
        "how": how,
        "budget": budget,
        "memory_ratio": stats["high_water_mark"] / most,
        **{name: stats[name] for name in ("moved_ratio", "passes_ratio", "refused_ratio", "longest_pass")},
    }


def measure_all(most: int, largest: int) -> list[dict[str, Any]]:
    """The whole table."""
    cases = [("none", None), *((how, budget) for how in WAYS for budget in (None, *BUDGETS))]
    return [measure(policy, how, budget, most, largest) for policy in FITS for how, budget in cases]


def draw(rows: list[dict[str, Any]], most: int, largest: int) -> Any:
    """Memory over the budget, and over what was moved: a line for each way and fit. (All fits give the same line.)"""
    import matplotlib
    from matplotlib.figure import Figure

    marks: dict[str, dict[str, Any]] = {
        "slide": {"color": "#0072B2", "marker": "o", "markersize": 7.5, "markerfacecolor": "white"},
        "two-finger": {"color": "#D55E00", "marker": "s", "markersize": 4},
        "first-window": {"color": "#009E73", "marker": "^", "markersize": 4.5},
    }
    grey = "#777777"
    with matplotlib.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(9.6, 4.0), layout="constrained")
        by_budget, by_moves = figure.subplots(1, 2, sharey=True)
        worst = bound(most, largest) / most
        for axes in (by_budget, by_moves):
            axes.grid(color="#DDDDDD", linewidth=0.6)
            axes.axhline(worst, color=grey, linewidth=1)
            axes.axhline(1, color=grey, linewidth=1)
        for policy, (how, style) in itertools.product(FITS, marks.items()):
            here = [row for row in rows if (row["policy"], row["how"]) == (policy, how)]
            limited = [row for row in here if row["budget"] is not None]
            style |= {"linewidth": 1.3, "label": how if policy == FITS[0] else None}
            by_budget.plot([row["budget"] for row in limited], [row["memory_ratio"] for row in limited], **style)
            by_moves.plot([row["moved_ratio"] for row in here], [row["memory_ratio"] for row in here], **style)
        enough = np.geomspace(BUDGETS[0], worst - 1)
        by_budget.plot(enough, enough + 1, color=grey, linestyle=":", label="(c + 1) M: always enough")
        by_budget.set_xscale("log", base=2)
        by_budget.set_xticks(ticks := [2**k for k in range(9)], [str(tick) for tick in ticks])
        by_budget.set_xlabel("budget c: granules allocated for each granule moved, at least")
        by_budget.set_ylabel(f"memory used / M, M = {most:,} granules")
        by_budget.set_ylim(0.75, worst + 0.3)
        by_moves.set_xlabel("granules moved for each granule allocated")
        by_moves.text(1.3, worst + 0.04, "if no block moves (Robson 1971)", ha="right")
        by_moves.text(1.3, 0.84, "live at most: M", ha="right")
        by_moves.legend(*by_budget.get_legend_handles_labels(), frameon=False, loc=(0.5, 0.5))
        figure.suptitle(f"Robson's adversary against compaction: blocks of 1, 2, 4, ..., {largest} granules, four fits")
    return figure


def main() -> None:
    """Measure, print, save."""
    rows = measure_all(MOST, LARGEST)
    print(f"{'policy':12}{'how':14}{'budget':>8}{'memory':>9}{'moved':>8}{'longest pass':>14}")
    for row in rows:
        budget = "-" if row["budget"] is None else row["budget"]
        print(f"{row['policy']:12}{row['how']:14}{budget:>8}", end="")
        print(f"{row['memory_ratio']:9.3f}{row['moved_ratio']:8.3f}{row['longest_pass']:14.0f}")
    figure = draw(rows, MOST, LARGEST) if find_spec("matplotlib") else None
    va.save("robson_compaction", rows, figure)


if __name__ == "__main__":
    main()

"""How many bytes a request asks for: a law, rounded to whole bytes, held within bounds as the file says.

    sizes = {dist = "lognorm", s = 1.0, scale = 256, max = "8KiB", bounds = "clip"}

A number of the law is first rounded (`rounding`: up by default; "round" takes halves to the even neighbour), then held
within `min` and `max` by `bounds`: "clip" moves what lies outside to the nearest bound, "reject" draws again until all
is inside. Nothing is cut silently: without `min`, a size below 0 is an error when it is drawn, and so is one that is no
number or larger than a request can be.

A load is arrival rate x mean life x mean size, so the mean must be that of the sizes as they are drawn: rounding up
adds half a byte to most laws, and a bound takes away what it takes away. With P(k) the probability that a rounded size
exceeds k, and sums over the whole numbers min <= k < max,

    clip      E = min + sum of P(k)
    reject    E = min + sum of (P(k) - P(max)) / (P(min - 1) - P(max))

Tables (histograms, fleets) are summed as they are, and each of their values is rounded and bounded once, before
anything is drawn. Elsewhere a sum may run over 2^60 whole numbers, or without end. It is cut into panels of 64, 64,
128, 256, ... numbers. Those of 64 are added up; a longer one is taken at 16 points, with weights that give every
polynomial of degree 15 its sum over the whole numbers (not its integral), and is halved until its halves say what it
said to 1e-12 of the sum. What is left is far less than that: the tests compare sums of 2^21 numbers, term by term, to
1e-13. Since P falls, a jump between the points shows. Where the far tail of scipy's survival function is noise and
there is no max, scipy's mean bounds the sum to a byte.

In a fleet a block lives as long as blocks of its size do: the life belongs to the size that was drawn, also if a bound
moves the request. So `draw_with_lives` gives both, and `mean_size_life` is the mean of their product.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vecalloc.errors import InputError
from vecalloc.spec import checked_choice, parse_size
from vecalloc.trace import LARGEST_SIZE
from vecalloc.workload.laws import Constant, Fleet, Floats, Law, Mixture, ScipyLaw, Table, law_of

REVISION = 1
"""Raised whenever sizes are rounded, bounded or drawn again in another way than before."""

BOUNDS = ("reject", "clip")
"""What becomes of a size outside of min and max."""

ROUNDINGS = ("ceil", "round", "floor")
"""How a number becomes whole bytes."""

LEAST_ACCEPTED = 1e-3
"""Bounds that reject more than all but this share of the sizes are refused."""

_WORDS = ("min", "max", "bounds", "rounding")

_ROUND: dict[str, Any] = {"ceil": np.ceil, "round": np.rint, "floor": np.floor}

_UP = {"ceil": 0.0, "round": 0.5, "floor": 1.0}
"""A rounded number exceeds the whole number k if the number itself exceeds k plus this (continuous laws)."""

_MOST_AT_ONCE = 1 << 16
"""Numbers drawn at once to take the place of rejected ones."""

_EACH = 64
"""Panels of so many whole numbers, or fewer, are added up one by one."""

_POINTS = 16

_TOLERANCE = 2.0**-40
"""Of the sum; what the halves of a panel may differ from the whole."""

_MOST_POINTS = 1 << 20
"""Once so many were looked at, panels are taken as they are: scipy's survival function is not smooth there."""


@dataclass(frozen=True)
class Sizes:
    """Sizes of requests in bytes.

    Attributes
    ----------
    law : Law
        Before rounding and bounds.
    low, high : int or None
        min and max in bytes.
    bounds : str or None
        One of BOUNDS, if there is a min or a max.
    rounding : str
        One of ROUNDINGS.
    key : str
        Where the sizes are written: begins every message, and makes no difference.
    """

    law: Law
    low: int | None = None
    high: int | None = None
    bounds: str | None = None
    rounding: str = "ceil"
    key: str = field(default="sizes", compare=False)

    def draw(self, generator: np.random.Generator, count: int) -> NDArray[np.int64]:
        """Draw sizes, int64 (count,), bytes.

        First `count` numbers of the law are drawn; then those that bounds reject are replaced, in order, by what is
        inside of further draws. Tables are drawn as they are after rounding and bounds: nothing of them is rejected.

        Raises
        ------
        InputError
            If a size is below 0, no number, or larger than a request can be.
        """
        if self._table is not None:
            self._check(sizes := self._table.draw(generator, count))
            return sizes.astype(np.int64)
        sizes = self._rounded(self.law.draw(generator, count))
        if self.bounds == "reject":
            self._replace_rejected(sizes, generator)
        self._check(self._clipped(sizes))
        return sizes.astype(np.int64)

    def draw_with_lives(self, generator: np.random.Generator, count: int) -> tuple[NDArray[np.int64], Floats | None]:
        """Draw sizes as `draw` does, and for a fleet the mean life that belongs to each.

        Returns
        -------
        sizes : int64 (count,)
            Bytes.
        lives : float64 (count,) or None
            In the time unit of the fleet's rates; None if the sizes are no fleet's.
        """
        if not isinstance(self._table, Fleet):
            return self.draw(generator, count), None
        entry = self._table.pick(generator, count)
        return self._table.values[entry].astype(np.int64), self._table.lives[entry]

    def mean(self) -> float:
        """Return the mean size after rounding and bounds, bytes; inf or nan if the law has none.

        Sizes below 0 add nothing: they cannot be drawn.
        """
        return self._mean

    def mean_life(self) -> float:
        """Return the mean life of a fleet's requests, of those that bounds let in."""
        return self._fleet.mean_life()

    def mean_size_life(self) -> float:
        """Return the mean of size x life over a fleet's requests, sizes after rounding and bounds."""
        return self._fleet.mean_size_life()

    def canonical(self) -> dict[str, Any]:
        """Return everything that determines the draws, defaults included, as JSON can write it."""
        return {
            "law": self.law.canonical(),
            "min": self.low,
            "max": self.high,
            "bounds": self.bounds,
            "rounding": self.rounding,
        }

    # --- drawing ---

    @property
    def _from(self) -> float:
        return -math.inf if self.low is None else self.low

    @property
    def _to(self) -> float:
        return math.inf if self.high is None else self.high

    def _rounded(self, numbers: Floats) -> Floats:
        rounded: Floats = _ROUND[self.rounding](numbers)
        return rounded

    def _outside(self, sizes: Floats) -> NDArray[np.bool_]:
        return np.asarray((sizes < self._from) | (sizes > self._to))

    def _clipped(self, sizes: Floats) -> Floats:
        """Move sizes to the nearest bound, in place; those inside stay, and so does what is no number."""
        if self.low is not None:
            np.maximum(sizes, self.low, out=sizes)
        if self.high is not None:
            np.minimum(sizes, self.high, out=sizes)
        return sizes

    def _replace_rejected(self, sizes: Floats, generator: np.random.Generator) -> None:
        outside = np.flatnonzero(self._outside(sizes))
        while outside.size:
            count = min(int(outside.size / self._accepted) + _EACH, _MOST_AT_ONCE)
            more = self._rounded(self.law.draw(generator, count))
            inside = more[~self._outside(more)][: outside.size]
            sizes[outside[: inside.size]] = inside
            outside = outside[inside.size :]

    def _check(self, sizes: Floats) -> None:
        """Complain about sizes that nobody can request."""
        least, most = float(sizes.min(initial=0.0)), float(sizes.max(initial=0.0))
        if math.isnan(least):
            raise InputError(f"{self.key}: the law drew nan, which is no size: choose another law or other parameters")
        remedy = "and bounds = 'clip' or 'reject'"
        if least < 0:
            raise InputError(f"{self.key}: the law drew {least:g}, a size below 0: set min, {remedy}")
        if most > LARGEST_SIZE:
            raise InputError(
                f"{self.key}: the law drew {most:g}, more than the {LARGEST_SIZE} bytes of a request: set max, {remedy}"
            )

    @cached_property
    def _table(self) -> Table | None:
        """A table after rounding and bounds; None for other laws."""
        law = self.law
        if not isinstance(law, Table):
            return None
        sizes = self._rounded(law.values)
        inside = ~self._outside(sizes) if self.bounds == "reject" else np.ones(len(sizes), np.bool_)
        sizes, shares = self._clipped(sizes[inside]), law.probabilities[inside] / self._accepted
        return Fleet(sizes, shares, law.lives[inside]) if isinstance(law, Fleet) else Table(sizes, shares)

    def _try_out(self) -> None:
        """Complain at once about what must fail: bounds that let nothing in, a constant or a table of no sizes."""
        assert self._accepted > 0
        if isinstance(self.law, Constant):
            self._check(self._clipped(self._rounded(np.array([self.law.value]))))
        elif self._table is not None:
            self._check(self._table.values)

    @property
    def _fleet(self) -> Fleet:
        if not isinstance(self._table, Fleet):
            raise TypeError(f"{self.key} are no fleet's: only its sizes have lives")
        return self._table

    # --- exact means ---

    @cached_property
    def _accepted(self) -> float:
        """The share of the law that bounds do not reject; an InputError if that is next to nothing."""
        if self.bounds != "reject":
            return 1.0
        share = _share_above(self.law, self.rounding, self._from - 1) - _share_above(self.law, self.rounding, self._to)
        if not share >= LEAST_ACCEPTED:
            raise InputError(
                f"{self.key}: bounds = 'reject' keeps {max(share, 0):.2g} of the sizes between min and max, less than "
                f"{LEAST_ACCEPTED:g}: choose other bounds, or a law that lies between them"
            )
        return share

    @cached_property
    def _mean(self) -> float:
        if self._table is not None:
            return self._table.mean()
        if self.high is None and not math.isfinite(self.law.mean()):
            return self.law.mean()
        low = self.low or 0
        total = _sum_above(self.law, self.rounding, low, self._to, self.bounds == "reject")
        return low + total / self._accepted


def sizes_of(table: Any, key: str = "sizes", folder: str | Path = ".") -> Sizes:
    """Check sizes as they are written, and make them.

    Parameters
    ----------
    table : dict, number or str
        A law (see laws.py) with min, max, bounds and rounding beside it; or one size, such as 64 or "4KiB".
    key : str
        Where it stands, such as "workload.sizes": every message begins with it.
    folder : str or Path
        What the paths of traces and fleet profiles are relative to.

    Raises
    ------
    InputError
        If the law cannot be used, bounds are missing or reject nearly everything, or a table holds what is no size.
    """
    if isinstance(table, str):
        table = parse_size(table, key)
    words = {word: table[word] for word in _WORDS if word in table} if isinstance(table, Mapping) else {}
    rest = {word: value for word, value in table.items() if word not in words} if words else table
    law = law_of(rest, key, folder, sizes=True, others=_WORDS)
    low, high, bounds = _bounds_of(words, key)
    rounding = checked_choice(words.get("rounding", "ceil"), f"{key}.rounding", ROUNDINGS)
    sizes = Sizes(law, low, high, bounds, rounding, key)
    sizes._try_out()
    return sizes


def _bounds_of(words: Mapping[str, Any], key: str) -> tuple[int | None, int | None, str | None]:
    """Min, max and what becomes of a size outside of them."""
    low, high = (parse_size(words[name], f"{key}.{name}") if name in words else None for name in ("min", "max"))
    for name, size in (("min", low), ("max", high)):
        if size is not None and size > LARGEST_SIZE:
            raise InputError(f"{key}.{name} is {size}: write at most {LARGEST_SIZE} bytes")
    if low is not None and high is not None and low > high:
        raise InputError(f"{key}.min is {low}, above max, which is {high}: swap them")
    if low is None and high is None:
        if "bounds" in words:
            raise InputError(f"{key}.bounds is {words['bounds']!r}, but there is no min or max: set one, or remove it")
        return None, None, None
    if "bounds" not in words:
        raise InputError(f"{key} has a {'max' if low is None else 'min'}, but no bounds: write 'clip' or 'reject'")
    return low, high, checked_choice(words["bounds"], f"{key}.bounds", BOUNDS)


# --- sums over whole numbers -----------------------------------------------------------------------------------------


def _entries(law: Table | Constant, rounding: str) -> tuple[Floats, Floats]:
    """Rounded values and their probabilities."""
    values, shares = (law.values, law.probabilities) if isinstance(law, Table) else (np.array([law.value]), np.ones(1))
    return _ROUND[rounding](values), shares


def _above(law: Law, rounding: str, sizes: Floats) -> Floats:
    """Return the probabilities that a rounded number of the law exceeds whole `sizes`."""
    if isinstance(law, Mixture):
        parts = zip(law.weights, law.components, strict=True)
        return np.asarray(sum(weight * _above(part, rounding, sizes) for weight, part in parts))
    if isinstance(law, Table | Constant):
        return Table(*_entries(law, rounding)).sf(sizes)
    whole = isinstance(law, ScipyLaw) and law.discrete
    return law.sf(sizes if whole else sizes + _UP[rounding])


def _share_above(law: Law, rounding: str, size: float) -> float:
    """Return the probability that a rounded number exceeds one size, which may be infinite.

    It is no more than that of exceeding a smaller one, whatever scipy says about far tails.
    """
    if isinstance(law, Mixture):
        parts = zip(law.weights, law.components, strict=True)
        return math.fsum(weight * _share_above(part, rounding, size) for weight, part in parts)
    if not math.isfinite(size):
        return float(size < 0)
    smaller = np.floor(size * np.exp2(-np.arange(64.0))) if size > 0 else np.array([size])
    return float(np.fmin.reduce(_above(law, rounding, smaller)))


def _sum_above(law: Law, rounding: str, low: float, high: float, reject: bool) -> float:
    """Return the sum over the whole numbers low <= k < high of P(size > k), or to `reject` of P(high >= size > k)."""
    if isinstance(law, Mixture):
        parts = zip(law.weights, law.components, strict=True)
        return math.fsum(weight * _sum_above(part, rounding, low, high, reject) for weight, part in parts)
    if isinstance(law, Table | Constant):
        values, shares = _entries(law, rounding)
        return float(shares @ ((np.clip(values, low, high) - low) * ~(reject & (values > high))))
    assert isinstance(law, ScipyLaw)
    beyond = _share_above(law, rounding, high) if reject else 0.0
    bottom, top = law.support()

    def above(sizes: Floats) -> Floats:
        return _above(law, rounding, sizes) - beyond

    if high < math.inf or not math.isfinite(bottom):
        return _sum(above, low, min(high, max(low, _whole(top))))
    # Without a max, scipy's mean says what the far tail amounts to better than its survival function does.
    start, mean = min(low, math.floor(bottom)), law.mean()
    whole = mean
    if not law.discrete:
        least = mean - _UP[rounding]  # a rounded number lies less than 1 above its own least
        whole = min(max(start + _sum(above, start, _whole(top)), least), least + 1)
    return whole - start - _sum(above, start, low)


def _whole(x: float) -> float:
    return math.ceil(x) if math.isfinite(x) else x


def _sum(above: Callable[[Floats], Floats], first: float, last: float) -> float:
    """Return the sum of a falling function over the whole numbers first <= k < last, to about 1e-12 of it."""
    pending = _panels(first, _end_of_tail(above, first, last))
    sums, looked_at = _sums(above, pending)
    done = 0.0
    while pending:
        short = np.array([width <= _EACH for _, width in pending])
        done += math.fsum(sums[short])
        pending, sums = [panel for panel, each in zip(pending, short, strict=True) if not each], sums[~short]
        halves = [(start + k * width / 2, width / 2) for start, width in pending for k in (0, 1)]
        parts, points = _sums(above, halves)
        looked_at += points
        finer = parts[0::2] + parts[1::2]
        open_ = np.abs(finer - sums) > _TOLERANCE * (done + finer.sum())
        if looked_at > _MOST_POINTS:
            open_[:] = False
        done += math.fsum(finer[~open_])
        again = np.repeat(open_, 2)
        pending, sums = [half for half, more in zip(halves, again, strict=True) if more], parts[again]
    return done


def _end_of_tail(above: Callable[[Floats], Floats], first: float, last: float) -> float:
    """Where a falling function stops to matter, if that is before `last`.

    Far out, scipy's survival functions may be no number, or noise of 1e-15 that does not fall any more.
    """
    steps = np.exp2(np.arange(6, 1000, dtype=np.float64))
    steps = steps[steps < last - first]
    if not steps.size:
        return last
    values = above(first + steps)
    still = np.append(values[1:], 0.0) < values
    spoilt = ~(values > 0) | ((values < 1e-12) & ~still)
    count = int(np.argmax(spoilt)) if spoilt.any() else len(steps)
    weight = values[:count] * steps[:count]
    matters = np.flatnonzero(weight > 1e-18 * weight.max(initial=1.0))
    return min(last, first + float(2 * steps[matters[-1]] if matters.size else steps[0]))


def _panels(first: float, last: float) -> list[tuple[float, float]]:
    """Cut first <= k < last into panels (start, width), widths being powers of two that double, then fall."""
    panels: list[tuple[float, float]] = []
    start, width = first, float(_EACH)
    while start + width <= last:
        panels.append((start, width))
        start += width
        width = max(start - first, _EACH)
    while start < last:
        width = 2.0 ** math.floor(math.log2(last - start))
        panels.append((start, width))
        start += width
    return panels


def _sums(above: Callable[[Floats], Floats], panels: Sequence[tuple[float, float]]) -> tuple[Floats, int]:
    """The sum over each panel, float64 (panels,), and how many points that took."""
    if not panels:
        return np.empty(0), 0
    rules = [_rule(width) for _, width in panels]
    values = above(np.concatenate([start + points for (start, _), (points, _) in zip(panels, rules, strict=True)]))
    parts = values * np.concatenate([weights for _, weights in rules])
    starts = np.cumsum([0] + [len(points) for points, _ in rules[:-1]])
    return np.asarray(np.add.reduceat(parts, starts), np.float64), len(parts)


@lru_cache(maxsize=2048)
def _rule(width: float) -> tuple[Floats, Floats]:
    """Points among 0, 1, ..., width - 1, and weights that make a sum over all of these of any polynomial of degree 15.

    The points are the whole numbers next to Gauss' points; the weights solve one equation for each Legendre polynomial.
    Its sum is taken as it is, or for a wide panel by Euler and Maclaurin: the sum of f over the midpoints of `width`
    cells of -1..1 is width / 2 x its integral - (f'(1) - f'(-1)) / (12 width), and what follows is below 1e-13.
    """
    if width <= _EACH:
        return np.arange(width), np.ones(int(width))
    gauss, _ = np.polynomial.legendre.leggauss(_POINTS)
    points = np.rint(((gauss + 1) * width - 1) / 2)
    degree = np.arange(_POINTS)
    if width <= 1 << 14:
        moments = _legendre(np.arange(width), width).sum(0)
    else:
        moments = np.where(degree % 2 == 0, -degree * (degree + 1) / (12 * width), 0.0)
        moments[0] = width
    return points, np.linalg.solve(_legendre(points, width).T, moments)


def _legendre(numbers: Floats, width: float) -> Floats:
    """The Legendre polynomials at whole numbers 0 .. width - 1, moved into -1..1: float64 (numbers, 16)."""
    return np.asarray(np.polynomial.legendre.legvander((2 * numbers + 1) / width - 1, _POINTS - 1), np.float64)

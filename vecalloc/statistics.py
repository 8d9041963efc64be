"""How sure a number is: intervals over replicas, paired differences, warm-up, batch means, when to stop.

Everything here is a pure function of arrays of plain numbers, one per replica. Replicas are independent, what happens
inside one is not: so a replica is one observation, and all spread is measured *between* replicas. A metric is a ratio
of sums over replicas (`tops` over `bottoms`, see metrics.py); its error is that of the mean of the linearised residuals

    e_i = (top_i - r bottom_i) / mean(bottom),    r = sum(top) / sum(bottom)

(the delta method: Cochran 1977, section 6.4), with a Student interval of n - 1 degrees of freedom. A plain mean is the
case bottom = 1. The difference of two policies that met the same requests is the mean of e_i(a) - e_i(b): what the
requests had in common cancels (common random numbers: Law 2015, section 11.2).

*Few events.* A hundred replicas without one failure have no variance, and yet do not prove that failures never happen.
A ratio that counts events (failures of requests) and has seen fewer than 10 of them, or fewer than 10 non-events, gets
the exact interval of Clopper and Pearson (1934) instead of Student's. So it cannot count as converged for want of
variance: the exact interval is never empty, and only it is held against a target. Where 0 failures in 10^6 requests
bound the ratio by 4e-6, a target of +-0.001 is met, and a relative target, relative to nothing, never is. Failures come
in bursts, which an exact interval for independent trials knows nothing of; where replicas show them (more variance than
Poisson's), the counts are divided by that excess, as Korn and Graubard (1998) do for clustered samples. Bursts that no
replica showed remain unknown. Quantities that are no counts have no such interval: no spread over all replicas is taken
at its word, but for a relative target where the mean is 0.

*Stopping.* The target is looked at only at 32, 48, 72, 108, ... replicas. Looking again and again until an interval
happens to be narrow favours samples with too little variance (Chow and Robbins 1965 prove that this costs nothing in
the limit; Law and Kelton 1982, Singham and Schruben 2012 measure what it costs in practice: a least number of replicas
and few looks are the remedy). Where replicas are skewed it costs much: samples that miss the tail underestimate the
variance, miss the mean on one side, and look less skewed than they are. Hence the correction in `Target.met`: besides,

    n >= 25 (|skewness| + 2 sqrt(6 / n))^2,

what Cochran (1977, section 2.15) asks before a normal interval for a mean is used at all, with the skewness two of its
standard errors further out than it was seen. Measured: % covered by the 95 % interval at the stop, the worst of eight
precisions, absolute and relative, 20,000 repetitions each (standard error 0.2 %):

    replicas                normal  skew 1  skew 2  skew -2  skew 2.8  Poisson(0.5)  M/M/1, 400 waits
    half-width alone          94.3    93.7    91.0     88.9      88.0          91.9              93.4
    with the correction       94.3    94.1    93.5     92.8      93.5          93.8              93.8

(92.8 is for a target relative to a mean of one standard deviation with a tail to the left, which quantities that cannot
be negative never have; for an absolute one it is 93.9.) The 99 % interval covers 97.9 to 98.7 %. Replicas that
are nearly normal pay a look at the very start (41 replicas where 33 were enough), and nothing later.

*Bits.* Sums over replicas are correctly rounded (math.fsum), so the same replicas give the same bits in any order, any
memory layout and on any CPU.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vecalloc.errors import InputError

Floats = NDArray[np.float64]

FEW = 10
"""Fewer events than this, or non-events, and a ratio of counts gets an exact interval (design, section 5)."""

FIRST_LOOK = 32
"""Replicas before the first look at a target; those whose mean series gives the warm-up cut."""

SKEWED = 25.0
"""Replicas per skewness^2 before a Student interval counts as converged (Cochran 1977, section 2.15)."""

AMPLE = 10.0
"""How much narrower than its target an interval must be for skewness not to matter any more.

Ten half-widths are twenty standard errors: even Chebyshev's inequality (no shape assumed), with a standard deviation
seen four times too small, leaves 4 % outside the target.
"""

BATCHES = 20
"""Batches of one long run: Schmeiser (1982) finds 10 to 30 best, more gain little and are more correlated."""


# --- intervals --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Estimate:
    """A number and how sure it is.

    Attributes
    ----------
    mean : float
        The estimate itself; for a ratio, the ratio of sums.
    standard_error : float
        nan where it is unknown (one replica, nothing to divide by).
    half_width : float
        Of the interval; if exact, the larger distance from the mean to an end. inf where nothing is known.
    replicas : int
        Observations it rests on.
    exact : bool
        Whether the interval is that of Clopper and Pearson, because there were few events.
    low, high : float
        Ends of the interval.
    skewness : float
        Of the (linearised) replicas; 0 where they do not differ.
    """

    mean: float
    standard_error: float
    half_width: float
    replicas: int
    exact: bool
    low: float
    high: float
    skewness: float


@dataclass(frozen=True)
class Difference(Estimate):
    """A paired difference.

    Attributes
    ----------
    variance_reduction : float
        (var a + var b) / var(a - b) over the linearised replicas: how many times as many replicas unpaired policies
        would have needed. inf where the two differ by the same amount in every replica, 1 where neither varies, nan
        where it is unknown. Below 1, pairing did harm.
    """

    variance_reduction: float


def estimate_mean(values: ArrayLike, confidence: float = 0.95) -> Estimate:
    """Mean of independent replicas with its Student interval.

    Parameters
    ----------
    values : (replicas,) floats
    confidence : float
        Between 0 and 1, both excluded.

    Raises
    ------
    InputError
        No values, values that are not finite or not of one dimension; a confidence out of range.
    """
    values = _vector(values, "values")
    return estimate_ratio(values, np.ones(len(values)), confidence)


def estimate_ratio(
    tops: ArrayLike, bottoms: ArrayLike, confidence: float = 0.95, counts_events: bool = False
) -> Estimate:
    """Ratio of sums over replicas with its interval: Student's by linearisation, or an exact one for few events.

    Parameters
    ----------
    tops, bottoms : (replicas,) numbers
        Numerator and denominator of each replica.
    confidence : float
        Between 0 and 1, both excluded.
    counts_events : bool
        Whether tops count events and bottoms the trials that they are part of. With fewer than 10 events or fewer than
        10 non-events in all, the interval is Clopper and Pearson's (see the essay above).

    Returns
    -------
    Estimate
        If bottoms sum to 0, the mean is 0 and nothing is known of it: an infinite half-width, or with counts_events
        the exact interval of no trials, which is from 0 to 1.

    Raises
    ------
    InputError
        Arrays that are empty, not finite or not alike; counts below 0, or of more events than trials; a confidence out
        of range.
    """
    tops, bottoms = _vector(tops, "tops"), _vector(bottoms, "bottoms")
    _alike(tops=tops, bottoms=bottoms)
    _check_confidence(confidence)
    parts = _linearise(tops, bottoms)
    if counts_events:
        events, trials = _counts(tops, bottoms)
        if min(events, trials - events) < FEW:
            return _exact(events, trials, parts, confidence)
    return _student(parts, confidence)


def estimate_difference(
    tops_a: ArrayLike,
    bottoms_a: ArrayLike,
    tops_b: ArrayLike,
    bottoms_b: ArrayLike,
    confidence: float = 0.95,
    counts_events: bool = False,
) -> Difference:
    """a - b of two ratios of sums whose replicas are paired: replica i of both met the same random numbers.

    Parameters
    ----------
    tops_a, bottoms_a, tops_b, bottoms_b : (replicas,) numbers
    confidence : float
        Between 0 and 1, both excluded.
    counts_events : bool
        As in `estimate_ratio`. Only where both ratios are of few events is their difference exact: it then lies between
        the ends of two exact intervals that miss half as often each (Bonferroni). Two policies that never failed do
        not thereby fail equally often.

    Raises
    ------
    InputError
        As `estimate_ratio`.
    """
    arrays = {
        "tops_a": _vector(tops_a, "tops_a"),
        "bottoms_a": _vector(bottoms_a, "bottoms_a"),
        "tops_b": _vector(tops_b, "tops_b"),
        "bottoms_b": _vector(bottoms_b, "bottoms_b"),
    }
    _alike(**arrays)
    _check_confidence(confidence)
    a = _linearise(arrays["tops_a"], arrays["bottoms_a"])
    b = _linearise(arrays["tops_b"], arrays["bottoms_b"])
    apart = _Parts(a.ratio - b.ratio, a.residuals - b.residuals, a.rounding + b.rounding, a.known and b.known)
    found = _student(apart, confidence)
    if counts_events:
        both = (1 + confidence) / 2
        ends_a = estimate_ratio(arrays["tops_a"], arrays["bottoms_a"], both, counts_events=True)
        ends_b = estimate_ratio(arrays["tops_b"], arrays["bottoms_b"], both, counts_events=True)
        if ends_a.exact and ends_b.exact:
            found = _between(apart, ends_a.low - ends_b.high, ends_a.high - ends_b.low)
    return Difference(**vars(found), variance_reduction=_variance_reduction(a, b, apart))


@dataclass(frozen=True)
class _Parts:
    """A ratio and what it is made of: residuals[i] is what replica i adds to its error.

    Residuals no larger than `rounding` are nothing but rounding errors. `known` is False where there was nothing to
    divide by.
    """

    ratio: float
    residuals: Floats
    rounding: float
    known: bool

    @property
    def largest(self) -> float:
        """Of the residuals, whatever their sign; 0 if all is rounding."""
        found = float(np.abs(self.residuals).max())
        return found if found > self.rounding else 0.0

    @property
    def standard_error(self) -> float:
        """Standard error of the ratio; nan where it is unknown."""
        n = len(self.residuals)
        if n == 1 or not self.known:
            return math.nan
        return self.largest * math.sqrt(self.moment(2) / (n - 1))

    @property
    def skewness(self) -> float:
        """Skewness of the residuals; 0 where they do not differ."""
        return self.moment(3) / self.moment(2) ** 1.5 if self.largest else 0.0

    def moment(self, k: int) -> float:
        """Mean k-th power of the residuals over their largest: no power is too small or too large for a float."""
        if not self.largest:
            return 0.0
        # Multiplied, as a library's pow need not round alike on every CPU.
        shape = self.residuals / self.largest
        return _sum(np.multiply.reduce([shape] * k)) / len(shape)


def _sum(values: Floats) -> float:
    """The correctly rounded sum: the same bits in any order."""
    return math.fsum(values.tolist())


def _linearise(tops: Floats, bottoms: Floats) -> _Parts:
    """The delta method: to first order, the ratio's error is the mean of the residuals."""
    whole = _sum(bottoms)
    if whole == 0:
        return _Parts(0.0, np.zeros(len(tops)), 0.0, False)
    ratio, mean = _sum(tops) / whole, whole / len(bottoms)
    rounding = 4 * float(np.finfo(np.float64).eps) * float(np.abs(tops).max()) / abs(mean)
    return _Parts(ratio, (tops - ratio * bottoms) / mean, rounding, True)


def _student(parts: _Parts, confidence: float) -> Estimate:
    n, error = len(parts.residuals), parts.standard_error
    half = math.inf if math.isnan(error) else _student_quantile(confidence, n - 1) * error
    return Estimate(parts.ratio, error, half, n, False, parts.ratio - half, parts.ratio + half, parts.skewness)


def _exact(events: float, trials: float, parts: _Parts, confidence: float) -> Estimate:
    """Clopper and Pearson's interval, of as many independent trials as the replicas' variance leaves."""
    excess, rare = 1.0, min(events, trials - events)
    if rare > 0 and len(parts.residuals) > 1:
        excess = max(1.0, parts.standard_error**2 * trials**2 / rare)
    return _between(parts, *_clopper_pearson(events / excess, trials / excess, confidence))


def _between(parts: _Parts, low: float, high: float) -> Estimate:
    half = max(parts.ratio - low, high - parts.ratio)
    n = len(parts.residuals)
    return Estimate(parts.ratio, parts.standard_error, half, n, True, low, high, parts.skewness)


def _clopper_pearson(events: float, trials: float, confidence: float) -> tuple[float, float]:
    from scipy.special import betaincinv

    miss = (1 - confidence) / 2
    low = float(betaincinv(events, trials - events + 1, miss)) if events > 0 else 0.0
    high = float(betaincinv(events + 1, trials - events, 1 - miss)) if events < trials else 1.0
    return low, high


@lru_cache(maxsize=4096)
def _student_quantile(confidence: float, freedom: int) -> float:
    """scipy.special loads ten times as fast as scipy.stats, and is what scipy.stats.t calls."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, (1 + confidence) / 2))


def _variance_reduction(a: _Parts, b: _Parts, apart: _Parts) -> float:
    """(var a + var b) / var(a - b); nothing to reduce is 1, all of it reduced is inf."""
    alone, paired = math.hypot(a.standard_error, b.standard_error), apart.standard_error
    if paired == 0:
        return math.inf if alone > 0 else 1.0
    return (alone / paired) ** 2


# --- when to stop -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Target:
    """How precise a metric is to become: either an absolute half-width or one relative to the mean.

    Attributes
    ----------
    metric : str
    half_width, relative : float, optional
        Exactly one of the two, above 0.
    confidence : float
        Of the interval that is held against the target.

    Raises
    ------
    InputError
        Both or neither given, or not above 0; a confidence out of range.
    """

    metric: str
    half_width: float | None = None
    relative: float | None = None
    confidence: float = 0.95

    def __post_init__(self) -> None:
        given = {"half_width": self.half_width, "relative": self.relative}
        given = {name: value for name, value in given.items() if value is not None}
        if len(given) != 1:
            what = "neither half_width nor relative" if not given else "both half_width and relative"
            raise InputError(f"the target for {self.metric} has {what}; give one of them")
        for name, value in given.items():
            if value is None or not 0 < value < math.inf:
                raise InputError(f"the target for {self.metric} has {name} = {value}; give a number above 0")
        _check_confidence(self.confidence)

    def met(self, estimate: Estimate) -> bool:
        """Whether an estimate (with the target's own confidence) is as precise as was asked for.

        The half-width must be within the target. For an exact interval that is all. A Student interval must also rest
        on 25 skewness^2 replicas, the skewness taken two of its standard errors further from 0 (which 24 replicas never
        do), or be ten times narrower than asked for, so that skewness cannot matter; the essay above says why, and what
        it brings. What is relative to a mean of 0 is never met.
        """
        if self.half_width is not None:
            wanted = self.half_width
        else:
            assert self.relative is not None
            wanted = self.relative * abs(estimate.mean)
        if wanted == 0 or not estimate.half_width <= wanted:
            return False
        n = estimate.replicas
        even = n >= SKEWED * (abs(estimate.skewness) + 2 * math.sqrt(6 / n)) ** 2
        return estimate.exact or even or AMPLE * estimate.half_width <= wanted


def looks(cap: int, first: int = FIRST_LOOK) -> list[int]:
    """Numbers of replicas at which a target is looked at: 32, 48, 72, 108, 162, ... (half as many more), then the cap.

    Fixed, so that where a row stops depends neither on speed nor on other rows.

    Raises
    ------
    InputError
        A cap below 1 or a first look below 2.
    """
    cap, n = _whole("cap", cap, 1), _whole("first", first, 2)
    numbers = []
    while n < cap:
        numbers.append(n)
        n += n // 2
    return [*numbers, cap]


def first_look_that_meets(
    tops: ArrayLike,
    bottoms: ArrayLike,
    target: Target,
    cap: int,
    counts_events: bool = False,
    first: int = FIRST_LOOK,
) -> tuple[int | None, bool]:
    """At which look a ratio of sums stops, given the replicas at hand.

    Parameters
    ----------
    tops, bottoms : (replicas,) numbers
        In replica order; there may be more than are needed.
    target : Target
    cap : int
        The last look.
    counts_events : bool
        As in `estimate_ratio`.
    first : int
        The first look.

    Returns
    -------
    n : int or None
        The first look that meets the target; the cap if none does; None if more replicas are needed to tell.
    met : bool
        Whether the target is met at n.

    Raises
    ------
    InputError
        As `estimate_ratio` and `looks`.
    """
    tops, bottoms = _vector(tops, "tops"), _vector(bottoms, "bottoms")
    _alike(tops=tops, bottoms=bottoms)
    for n in looks(cap, first):
        if n > len(tops):
            return None, False
        if target.met(estimate_ratio(tops[:n], bottoms[:n], target.confidence, counts_events)):
            return n, True
    return cap, False


# --- one run: warm-up and batch means ---------------------------------------------------------------------------------


def mser(series: ArrayLike, group: int = 5) -> int:
    """MSER-5: how many observations to drop from the start of a series, so that what remains is most alike.

    The series is averaged in groups; dropped are the d groups that minimise the marginal standard error of the rest,

        sum over i > d of (x_i - mean of those)^2 / (groups - d)^2,

    the first such d on ties; at most half of the groups (a minimum beyond it means that the series is too short), and
    never so many that fewer than two remain. Observations that do not fill a last group are left out.

    Parameters
    ----------
    series : (n,) floats
    group : int
        Observations averaged into one; 1 if the series is one of averages already.

    Returns
    -------
    int
        Observations to drop, a multiple of group.

    Raises
    ------
    InputError
        No observations, or not finite ones; a group below 1.

    Notes
    -----
    White (1997), Simulation 69(6); White, Cobb and Spratt (2000), WSC (MSER-5); half: Hoad, Robinson and Davies (2010).
    """
    series, group = _vector(series, "series"), _whole("group", group, 1)
    groups = len(series) // group
    if groups < 3:
        return 0
    means = series[: groups * group].reshape(groups, group).mean(axis=1)
    # From the last on, sums of squares are of small numbers, and those of a constant end exactly 0: ties are ties.
    means = means - means[-1]
    left = np.arange(groups, 0, -1)
    sums, squares = (np.cumsum(x[::-1])[::-1] for x in (means, means * means))
    marginal = np.maximum(squares - sums * sums / left, 0.0) / (left * left)
    last = min(groups // 2, groups - 2)
    return int(np.argmin(marginal[: last + 1])) * group


def mser_cut(tops: ArrayLike, bottoms: ArrayLike) -> int:
    """The warm-up of a row, in whole batches: MSER on the mean series of its first 32 replicas.

    The ledger keeps 64 equal batches of each replica's time, which are averages over many events already and are not
    grouped by five again (12 groups would be too coarse to see a warm-up in). Averaging over replicas first (Welch
    1983) takes the noise down before the cut is sought. Later replicas never move the cut, so it is the same for every
    target; all replicas are cut there. A pair of rows uses the later cut of the two.

    Parameters
    ----------
    tops, bottoms : (replicas, batches) numbers
        Numerator and denominator by batch. A batch in which nothing happened (bottoms sum to 0) counts as 0.

    Returns
    -------
    int
        Batches to drop, 0 to half of them.

    Raises
    ------
    InputError
        Arrays that are empty, not finite, not of two dimensions or not alike.
    """
    tops, bottoms = _finite(tops, "tops", 2), _finite(bottoms, "bottoms", 2)
    _alike(tops=tops, bottoms=bottoms)
    top, bottom = (np.array([math.fsum(c) for c in x[:FIRST_LOOK].T.tolist()]) for x in (tops, bottoms))
    return mser(np.divide(top, bottom, out=np.zeros(len(top)), where=bottom != 0), group=1)


def batch_means(series: ArrayLike, batches: int | None = None, confidence: float = 0.95) -> Estimate:
    """Mean of one long stationary run, from the means of equal batches that follow each other without overlap.

    Batches much longer than the run's memory are nearly independent; nothing here can check that they are. What does
    not fill equal batches is left out at the start, where a run remembers its beginning.

    Parameters
    ----------
    series : (n,) floats
        Observations in order, the warm-up already dropped.
    batches : int, optional
        How many; 20 by default (fewer if there are fewer than two observations for each): within the 10 to 30 that
        Schmeiser (1982) recommends, where more batches narrow the interval by less than their correlation harms it.
    confidence : float
        Between 0 and 1, both excluded.

    Returns
    -------
    Estimate
        Its replicas are the batches.

    Raises
    ------
    InputError
        No observations, not finite ones, or more batches than observations; a confidence out of range.
    """
    series = _vector(series, "series")
    if batches is None:
        batches = max(1, min(BATCHES, len(series) // 2))
    if _whole("batches", batches, 1) > len(series):
        raise InputError(f"batches is {batches} for a series of {len(series)}; give at most that many")
    rest = len(series) % batches
    return estimate_mean(series[rest:].reshape(batches, -1).mean(axis=1), confidence)


# --- across cells: slopes, crossovers, sensitivity --------------------------------------------------------------------


@dataclass(frozen=True)
class Resampled:
    """A statistic of several cells and its bootstrap interval; arrays of the statistic's own shape.

    Attributes
    ----------
    value : array
        Of the replicas as they are.
    low, high : array
        Ends of the interval. nan where the statistic itself, or a larger share of the resamples than the interval may
        miss, is undefined; infinite for a single replica.
    standard_error : array
        Standard deviation over the resamples in which it is defined.
    undefined : array
        Share of the resamples in which it is not (nan: curves that did not cross).
    """

    value: Floats
    low: Floats
    high: Floats
    standard_error: Floats
    undefined: Floats


def resample_jointly(
    values: ArrayLike,
    statistic: Callable[[Floats], ArrayLike],
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Resampled:
    """Bootstrap a statistic of several cells that share random numbers.

    Cells of a sweep meet the same random numbers replica by replica, so their errors are correlated. Whole replicas are
    drawn with replacement, *the same ones for all cells*, which keeps the correlation; a slope or a crossover is then
    usually much surer than from cells that are resampled one by one.

    Parameters
    ----------
    values : (replicas, cells, ...) floats
    statistic : callable
        Takes an array like values, with replicas drawn, and gives a number or an array; nan where undefined. It must
        not depend on the order of the replicas.
    confidence : float
        Between 0 and 1, both excluded.
    resamples : int
        At least 100.
    seed : int
        Of the drawing. The same seed gives the same bits.

    Raises
    ------
    InputError
        Values that are empty, not finite or of one dimension; too few resamples; a negative seed; a confidence out of
        range.

    Notes
    -----
    Own numpy instead of scipy.stats.bootstrap: that resamples one axis of one-dimensional samples, would give the
    statistic one argument a cell, and makes nan of the whole interval if a single resample has no crossover.
    The interval is the percentile one, expanded to cover what it should for few replicas: its levels are
    Phi(-+ sqrt(n / (n - 1)) t), t Student's quantile (Hesterberg 2015, The American Statistician 69(4), 371-386).
    Indices come from a Philox generator seeded by the seed alone; the streams of a simulation have a spawn key besides.
    """
    values = _finite(values, "values", None)
    if values.ndim < 2:
        raise InputError(f"values has the shape {values.shape}; give one row a replica, one column a cell")
    _check_confidence(confidence)
    resamples, seed, n = _whole("resamples", resamples, 100), _whole("seed", seed, 0), len(values)
    rng = np.random.Generator(np.random.Philox(seed))
    value = np.asarray(statistic(values), np.float64)
    draws = np.empty((resamples, *value.shape))
    for k in range(resamples):
        draws[k] = statistic(values[rng.integers(0, n, n)])
    ends = [_bootstrap_ends(draws[:, *at], float(value[at]), n, confidence) for at in np.ndindex(value.shape)]
    low, high, error, undefined = (np.array(x).reshape(value.shape) for x in zip(*ends, strict=True))
    return Resampled(value, low, high, error, undefined)


def _bootstrap_ends(draws: Floats, value: float, n: int, confidence: float) -> tuple[float, float, float, float]:
    """Low, high, standard error and undefined share of one number."""
    from scipy.special import ndtr

    defined = draws[np.isfinite(draws)]
    undefined = 1 - len(defined) / len(draws)
    error = float(defined.std()) if n > 1 and len(defined) else math.nan
    if not math.isfinite(value) or undefined > 1 - confidence:
        return math.nan, math.nan, error, undefined
    if n == 1:
        return -math.inf, math.inf, error, undefined
    miss = float(ndtr(-math.sqrt(n / (n - 1)) * _student_quantile(confidence, n - 1)))
    low, high = np.quantile(defined, [miss, 1 - miss])
    return float(low), float(high), error, undefined


def crossover(x: ArrayLike, a: ArrayLike, b: ArrayLike) -> float:
    """Where curve a crosses curve b, by linear interpolation between the points; nan if they do not cross.

    The first crossing from the left. Where the curves are equal between two sides of opposite sign, the middle of that
    stretch; where they only touch, at the ends or between sides of equal sign, they do not cross.

    Parameters
    ----------
    x, a, b : (points,) floats
        x increasing.

    Raises
    ------
    InputError
        Arrays that are empty, not finite or not alike; an x that does not increase.
    """
    x, a, b = _vector(x, "x"), _vector(a, "a"), _vector(b, "b")
    _alike(x=x, a=a, b=b)
    if not (np.diff(x) > 0).all():
        raise InputError(f"x is {x.tolist()}; sort the points by x, each once, before looking for a crossing")
    gap = a - b
    apart = np.flatnonzero(gap)
    for i, j in pairwise(apart.tolist()):
        if (gap[i] > 0) != (gap[j] > 0):
            if j > i + 1:
                return float((x[i + 1] + x[j - 1]) / 2)
            return float(x[i] + (x[j] - x[i]) * (gap[i] / (gap[i] - gap[j])))
    return math.nan


def slope(x: ArrayLike, y: ArrayLike) -> float:
    """Slope of the least-squares line through points.

    Parameters
    ----------
    x, y : (points,) floats

    Raises
    ------
    InputError
        Arrays that are empty, not finite or not alike; all x equal.
    """
    x, y = _vector(x, "x"), _vector(y, "y")
    _alike(x=x, y=y)
    off = x - _sum(x) / len(x)
    if x.min() == x.max():
        raise InputError(f"x is {x.tolist()}; a slope needs at least two different x")
    return _sum(off * y) / _sum(off * off)


@dataclass(frozen=True)
class Sensitivity:
    """Sobol indices of each swept key: the share of a metric's variance over the design that it accounts for.

    Attributes
    ----------
    first : Resampled of (keys,)
        By itself.
    total : Resampled of (keys,)
        With all its interactions.
    """

    first: Resampled
    total: Resampled


def first_order_indices(
    f_A: ArrayLike,
    f_B: ArrayLike,
    f_AB: ArrayLike,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Sensitivity:
    """First-order and total Sobol sensitivity indices with bootstrap intervals (Saltelli et al. 2010).

    Parameters
    ----------
    f_A, f_B : (points,) floats
        The metric at the rows of the two base matrices A and B; a power of two.
    f_AB : (keys, points) floats
        At the rows of A with one key's column taken from B.
    confidence, resamples, seed
        As in `resample_jointly`, of the points (those of a Sobol sequence are spread more evenly than independent
        ones, so the intervals are wider than need be).

    Returns
    -------
    Sensitivity
        All indices are 0 for a metric that does not vary.

    Raises
    ------
    InputError
        Arrays that are empty, not finite or of other shapes; points that are not a power of two.

    Notes
    -----
    The indices are scipy.stats.sobol_indices'. The intervals are not: its bootstrap takes no seed, and would give other
    bits every time.
    """
    a, b, ab = _vector(f_A, "f_A"), _vector(f_B, "f_B"), _finite(f_AB, "f_AB", 2)
    _alike(f_A=a, f_B=b)
    points = len(a)
    if ab.shape[1] != points:
        raise InputError(f"f_AB has the shape {ab.shape} beside {points} points; give one row a key")
    if points < 2 or points & (points - 1):
        raise InputError(f"the design has {points} points; give a power of two")
    both = resample_jointly(np.vstack([a, b, ab]).T, _sobol_indices, confidence, resamples, seed)
    first, total = (Resampled(**{name: array[k] for name, array in vars(both).items()}) for k in range(2))
    return Sensitivity(first, total)


def _sobol_indices(values: Floats) -> Floats:
    """First-order and total indices (2, keys) of values (points, 2 + keys)."""
    from scipy.stats import sobol_indices

    a, b, ab = values.T[:1], values.T[1:2], values.T[2:]
    # scipy squeezes a single key's axis away and then fails: give it the key twice.
    rows = ab if len(ab) > 1 else np.vstack([ab, ab])
    found = sobol_indices(func={"f_A": a, "f_B": b, "f_AB": rows[:, None, :]}, n=len(values))
    return np.vstack([found.first_order, found.total_order])[:, : len(ab)]


# --- checks -----------------------------------------------------------------------------------------------------------


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise InputError(f"confidence is {confidence}; give a number between 0 and 1, such as 0.95")


def _whole(name: str, value: int, least: int) -> int:
    if int(value) != value or value < least:
        raise InputError(f"{name} is {value}; give a whole number from {least} on")
    return int(value)


def _finite(array: ArrayLike, name: str, dimensions: int | None) -> Floats:
    found = np.asarray(array, np.float64)
    if (dimensions is not None and found.ndim != dimensions) or found.size == 0:
        wanted = "numbers" if dimensions is None else f"numbers in {dimensions} dimension{'s' * (dimensions > 1)}"
        raise InputError(f"{name} has the shape {found.shape}; give at least one of each axis, {wanted}")
    if not np.isfinite(found).all():
        at = np.argwhere(~np.isfinite(found))[0].tolist()
        raise InputError(f"{name} is {found[tuple(at)]} at {at}; give finite numbers")
    return found


def _vector(array: ArrayLike, name: str) -> Floats:
    return _finite(array, name, 1)


def _alike(**arrays: Floats) -> None:
    shapes = {name: array.shape for name, array in arrays.items()}
    if len(set(shapes.values())) > 1:
        told = ", ".join(f"{name} has the shape {shape}" for name, shape in shapes.items())
        raise InputError(f"{told}; give arrays of equal shapes, one number a replica or point")


def _counts(tops: Floats, bottoms: Floats) -> tuple[float, float]:
    """Events and trials in all."""
    wrong = np.flatnonzero((tops < 0) | (tops > bottoms))
    if len(wrong):
        i = wrong[0]
        raise InputError(f"replica {i} has {tops[i]:g} events of {bottoms[i]:g} trials; count events among the trials")
    return _sum(tops), _sum(bottoms)

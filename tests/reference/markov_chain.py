"""A tiny pool solved exactly: every state a policy can be in, every jump between two of them, and the shares of time.

Requests come as a Poisson stream, each asks for one of a few extents, a block lives an exponential time of mean 1, and
a request that does not fit is lost. Then the pool is a Markov chain in continuous time, and its long-run shares of time
give every average that a simulation can only estimate. The unit of time is the mean lifetime.

The policies are the naive references themselves, copied and driven: no rule is written down a second time. A state is
all that the reference holds, so also next fit's cursor, or the age of holes and free buddies where a policy goes by it:

    "..." --alloc 2--> "AA." --alloc 1--> "AAB" --free A--> "..B"        rates: rate x P(2), rate x P(1), 1

The shares of time come from uniformisation: with Q the matrix of rates and no state left faster than `fastest`, the
chain sampled at the ticks of a Poisson clock of that rate steps by I + Q / fastest, which has the same equilibrium. A
pool forgets where it began in a few lifetimes, so that a hundred of them leave rounding errors only.

Sources: the model of Betteridge 1974; uniformisation: Jensen 1953.
"""

import math
import pickle
from dataclasses import dataclass

import numpy as np
import scipy.sparse

from . import REFERENCES

LIFETIMES = 100  # how long the chain is followed: what is left of the start is about exp(-100)


@dataclass(frozen=True)
class Equilibrium:
    """Exact long-run values of one pool; times in mean lifetimes, space in granules.

    Attributes
    ----------
    states : int
        How many states the chain has.
    blocking : float
        Share of the requests that fail (the failure ratio).
    blocking_of : dict of int to float
        The same for the requests of each extent.
    causes : dict of str to float
        Share of all requests that fail for this cause; the three add up to `blocking`.
    inexact : float
        Knuth's p: share of the served requests that leave a remainder, which is a hole (buddy: that split a block).
    address : float
        Mean start of a block, over the served requests.
    holes, blocks, free, largest, granted, requested : float
        Time averages: number of holes (buddy: free blocks) and blocks, granules free, in the largest hole, in blocks,
        and asked for by the live blocks.
    top, ends : float
        Time averages: the end of the highest live block (0 when there is none), and how many of the pool's two ends
        touch a hole.
    utilisation : float
        `requested` / the pool's granules.
    internal_fragmentation : float
        1 - `requested` / `granted`.
    external_fragmentation : float
        1 - `largest` / `free`: a ratio of time averages, not the average of a ratio.
    holes_per_block : float
        `holes` / `blocks`.
    """

    states: int
    blocking: float
    blocking_of: dict
    causes: dict
    inexact: float
    address: float
    holes: float
    blocks: float
    free: float
    largest: float
    granted: float
    requested: float
    top: float
    ends: float
    utilisation: float
    internal_fragmentation: float
    external_fragmentation: float
    holes_per_block: float


def solve(name, granules, rate, sizes, **options):
    """The exact equilibrium of a policy in a pool that loses what does not fit.

    Parameters
    ----------
    name : str
        A key of REFERENCES.
    granules : int
        The pool. The number of states grows like 2.5 ** granules: 8 is quick, 12 is for blocks of one extent.
    rate : float
        Requests per mean lifetime.
    sizes : dict of int to float
        Probability of each extent, in granules; they add up to 1.
    **options
        The reference's own, in granules: carve, ties, min_split, order, unit, units.

    Returns
    -------
    Equilibrium
    """
    assert math.isclose(sum(sizes.values()), 1) and min(sizes) >= 1 and rate > 0
    states, requests, generator = explore(REFERENCES[name](granules, **options), rate, sizes)
    time = stationary(generator)
    return summary(states, requests, time.tolist(), granules, rate, sizes)


def explore(policy, rate, sizes):
    """Walk to every state that can be reached from an empty pool.

    Returns
    -------
    states : list
        One reference for each state; the first is `policy`.
    requests : list of dict
        For each state, extent -> (start or None, cause of the failure or None, whether a hole was used up).
    generator : scipy.sparse.csr_array
        Q: at [i, j] the rate of jumps from i to j, on the diagonal minus the rate at which i is left.
    """
    states, number = [policy], {key(policy): 0}
    requests, jumps = [], []

    def jump(here, after, how_often):
        there = number.setdefault(key(after), len(states))
        if there == len(states):
            states.append(after)
        jumps.append((here, there, how_often))

    for here, state in enumerate(states):  # grows as it is walked
        told = {}
        for extent, share in sizes.items():
            after = copy_of(state)
            start = after.alloc(extent)
            if start is None:
                told[extent] = None, after.cause(extent), False
            else:
                told[extent] = start, None, len(after.holes()) < len(state.holes())
                jump(here, after, rate * share)
        requests.append(told)
        for start in state.blocks:
            after = copy_of(state)
            after.free(start)
            jump(here, after, 1.0)

    origin, target, rates = map(np.array, zip(*jumps, strict=True))
    leaving = np.bincount(origin, rates, len(states))
    flow = scipy.sparse.coo_array((rates, (origin, target)), shape=(len(states), len(states)))
    return states, requests, (flow - scipy.sparse.diags_array(leaving)).tocsr()


def copy_of(policy):
    return pickle.loads(pickle.dumps(policy))  # a fifth of the time that copy.deepcopy takes


def key(policy):
    """All that the policy holds, with its lists sorted unless it goes by their order."""
    by_order = getattr(policy, "lifo", False) or getattr(policy, "ties", "lowest") == "lifo"
    return frozen(vars(policy), by_order)


def frozen(value, by_order):
    if isinstance(value, dict):
        return tuple((name, frozen(value[name], by_order)) for name in sorted(value))
    if isinstance(value, list):
        return tuple(value if by_order else sorted(value))
    return value


def stationary(generator):
    """The share of time that is spent in each state: the vector of sum 1 with time @ generator = 0."""
    states = generator.shape[0]
    fastest = 1.01 * -generator.diagonal().min()  # never equal: then every state may also stay, and no period is left
    step = (scipy.sparse.eye_array(states) + generator / fastest).T.tocsr()
    time = np.zeros(states)
    time[0] = 1
    for _ in range(math.ceil(LIFETIMES * fastest)):
        time = step @ time
    time /= time.sum()
    assert np.abs(time @ generator).max() < 1e-13 * fastest, "not yet in equilibrium"
    return time


def summary(states, requests, time, granules, rate, sizes):
    """Averages over the states, each taken for its share of time; arrivals see the same shares (PASTA)."""
    blocking_of = dict.fromkeys(sizes, 0.0)
    causes = {"too-large": 0.0, "capacity": 0.0, "fragmentation": 0.0}
    inexact = address = 0.0
    for spent, told in zip(time, requests, strict=True):
        for extent, (start, cause, used_up) in told.items():
            if start is None:
                blocking_of[extent] += spent
                causes[cause] += spent * sizes[extent]
            else:
                inexact += spent * sizes[extent] * (not used_up)
                address += spent * sizes[extent] * start
    served = {extent: share * (1 - blocking_of[extent]) for extent, share in sizes.items()}

    looks = [look(state) for state in states]
    mean = {name: sum(spent * seen[name] for spent, seen in zip(time, looks, strict=True)) for name in looks[0]}
    requested = rate * sum(extent * share for extent, share in served.items())  # Little: in at this rate, lives 1
    return Equilibrium(
        states=len(states),
        blocking=1 - sum(served.values()),
        blocking_of=blocking_of,
        causes=causes,
        inexact=inexact / sum(served.values()),
        address=address / sum(served.values()),
        **mean,
        requested=requested,
        utilisation=requested / granules,
        internal_fragmentation=1 - requested / mean["granted"],
        external_fragmentation=1 - mean["largest"] / mean["free"],
        holes_per_block=mean["holes"] / mean["blocks"],
    )


def look(state):
    """What there is to see of a pool at one moment."""
    holes = [size for _, size in state.holes()]
    top = max((start + granted for start, granted in state.blocks.items()), default=0)
    return {
        "holes": len(holes),
        "blocks": len(state.blocks),
        "free": sum(holes),
        "largest": max(holes, default=0),
        "granted": sum(state.blocks.values()),
        "top": top,
        "ends": (0 not in state.blocks) + (top < state.limit),
    }

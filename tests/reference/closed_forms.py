"""What is known in closed form about pools with Poisson arrivals: formulas that a simulation has to meet.

Two models. *Cells*: every block is one cell, the lowest free one, and there are always more cells; the first n of them
then lose to the cells beyond what a telephone exchange of n lines would lose, so Erlang's formulas speak about them.
*Ideal compaction*: a pool whose blocks are moved together whenever that helps; only the total of what is live counts.

`rho` is the offered load: requests per mean lifetime, which is the mean number of live blocks when none is lost.

Sources: Erlang 1917; Kosten 1937; Kaufman 1981; Roberts 1981; Coffman, Kadota and Shepp 1985.
"""

from decimal import Decimal, localcontext
from itertools import accumulate


def erlang_b(servers, load):
    """Erlang's loss formula: the share of requests that find all servers busy; any lifetime law.

    Parameters
    ----------
    servers : int
        Cells, units, lines; 0 loses everything.
    load : float
        Requests per mean lifetime.

    Notes
    -----
    B(n) = (load^n / n!) / sum over i <= n of load^i / i!, by its recursion, all of whose terms are positive.
    """
    loss = 1.0
    for n in range(1, servers + 1):
        loss = load * loss / (n + load * loss)
    return loss


def mean_cell_index(rho):
    """E1: the mean index of the cell a request is put in, cells counted from 1; any lifetime law.

    P(index > n) = B(n, rho), for the request finds the first n cells taken; so E[index] = B(0) + B(1) + ... (The mean
    address of the blocks, in cells, is this less 1.)
    """
    total, loss, n = 0.0, 1.0, 0
    while total + loss > total:
        total += loss
        n += 1
        loss = rho * loss / (n + rho * loss)
    return total


def expected_max_occupied_excess(rho, digits=12):
    """C1: E[highest occupied cell] - rho, for exponential lifetimes: the cells wasted below the top.

    Parameters
    ----------
    rho : float
        Requests per mean lifetime.
    digits : int
        The two truncations leave out less than 10^-digits for each cell that counts, some tens times sqrt(rho).

    Notes
    -----
    Let m be the number of occupied cells beyond the first n. Kosten's factorial moments of this overflow are

        E[m (m-1) ... (m-j+1)] = rho^j s_0(n) / s_j(n)

    with s_0(n) = rho^n / n! and s_j(n) = s_(j-1)(0) + ... + s_(j-1)(n); j = 1 gives rho B(n). By inclusion and
    exclusion P(highest > n) = P(m > 0) is the alternating sum of E[C(m, j)] over j = 1, 2, ..., and E[highest] is the
    sum of that over n >= 0.

    The terms grow as large as 10^196 at rho = 1000, while each n comes to no more than 1: a first pass in few digits
    finds how large, and a second takes that many digits more. A partial sum over j is off by less than the first term
    left out (Bonferroni), so each n stops at its first small term; m falls as n rises, so that large n stop first.
    """
    _, largest = kosten_sum(rho, digits, precision=20)
    excess, _ = kosten_sum(rho, digits, precision=digits + 10 + max(0, largest.adjusted()))
    return float(excess)


def kosten_sum(rho, digits, precision):
    """The double sum over n and j in this many decimal digits, less rho; and the largest term met on the way."""
    with localcontext(prec=precision):
        rho, small = Decimal(rho), Decimal(10) ** -digits
        powers = powers_while_it_matters(rho, small)
        first = surely_exceeded(powers, small * rho.exp())
        total, largest = first - rho, Decimal(0)
        coefficient, sums, j = Decimal(-1), powers, 0  # coefficient: -(-rho)^j / j!
        while len(sums) > first:
            j += 1
            coefficient *= -rho / j
            sums = list(accumulate(sums))
            terms = [coefficient * power / s for power, s in zip(powers[first:], sums[first:], strict=False)]
            over_n = sum(terms)
            total += over_n
            largest = max(largest, abs(over_n))
            while terms and abs(terms[-1]) < small:
                terms.pop()
            sums = sums[: first + len(terms)]
        return total, largest


def powers_while_it_matters(rho, small):
    """rho^n / n! for n = 0, 1, ... until the mean overflow rho B(n) is small."""
    powers, loss = [Decimal(1)], Decimal(1)
    while rho * loss > small:
        n = len(powers)
        powers.append(powers[-1] * rho / n)
        loss = rho * loss / (n + rho * loss)
    return powers


def surely_exceeded(powers, limit):
    """How many n = 0, 1, ... are so low that no more than n live blocks, hence highest <= n, is out of the question."""
    return next(n for n, at_most in enumerate(accumulate(powers)) if at_most > limit)


def kaufman_roberts(units, loads):
    """E2: a pool with compaction on every failure, requests lost when even that does not help; any lifetime law.

    Parameters
    ----------
    units : int
        The pool, in granules.
    loads : dict of int to float
        For each extent its requests per mean lifetime.

    Returns
    -------
    dict of int to float
        For each extent the share of its requests that is lost. Of all requests: the average weighted with `loads`.

    Notes
    -----
    q(j), the probability that j granules are taken, has j q(j) = sum over extents s of load_s s q(j - s).
    """
    taken = [1.0]
    for j in range(1, units + 1):
        taken.append(sum(load * s * taken[j - s] for s, load in loads.items() if s <= j) / j)
    return {s: sum(taken[max(0, units - s + 1) :]) / sum(taken) for s in loads}

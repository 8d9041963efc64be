"""The event loops, written once for all policies, and resumable.

replay      events whose order is known before
waiting     requests that wait for room, where the order comes about with the placements
swapping    processes that work and idle in turn, and are rolled out while they idle
metering    what all write into the ledger
words       numbers picked at random
cursors     where a replica stands, and why a loop left it

A policy binds each loop to its own `alloc`, `free`, ... in a kernel of a few lines; the loop is copied into that
kernel before types are inferred, so nothing is called through a pointer. A call runs replicas `first .. last - 1`, each
from where its cursor stands, until the stretch ends (`STOP`) or something needs somebody else: a request that only a
larger state can hold, blocks that are to be moved, or a first failure where the run is to stop. The cursor keeps the
place; entering again goes on as if nothing had been in between.

What a policy supplies, each inlined:

    pick(pools, r) -> pool, registers       replica r's rows
    alloc(pool, extent) -> address          in granules, NONE when no memory is available; nothing changes then
    free(pool, address)                     of a live block
    largest(pool) -> granules               the largest hole, 0 if there is none
    cause(pool, extent)                     why `extent` did not fit: TOO_LARGE, CAPACITY or FRAGMENTATION
    claim(pool, address, granted)           make a block of just these granules, which are free
    is_free(pool, address, granted)         whether all of them are: 1 or 0
"""

from vecalloc.loops.replay import replay_each
from vecalloc.loops.swapping import swap_each
from vecalloc.loops.waiting import process_each

__all__ = ["process_each", "replay_each", "swap_each"]

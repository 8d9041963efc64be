"""What to do when no hole fits, though the holes together would: a *remedy*, tried before the request fails or waits.

    compact    live blocks move, so that holes become one           what it costs: granules moved
    swap       idle processes leave for the disk, and come back     what it costs: the disk's time

A policy knows no remedy, and a remedy no policy: one says where a block goes, the other makes room, and the loop stands
between them. So every remedy goes with every policy, but for those that `spec.check_reclaim` refuses by name.

`table` says what remedies there are, what they take, and what the checked options are called (`Compact`, `Swap`); it
needs no numba, so that a remedy can be read and refused without. `spec` turns what people write into them. The other
files do the work, one idea each.

A pass of compaction takes no simulated time and comes just before an event; its cost is counted in granules, and the
bandwidth only says, once all is done, how many seconds that would have been. Swapping takes its time while it happens:
the disk serves one transfer after the other, and a process works again when its read is done.
"""

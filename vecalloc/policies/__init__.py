"""Where a block goes: one idea a file. `table` says what there is; each file is loaded when it is used.

What a policy's file holds, and all that the rest of the house asks of it:

    new(replicas, granules, grows, rules)       the state of empty pools: numpy arrays with a leading replica axis
    make_room(state, replica, extent, most)     in *grow*: the state in which `extent` can be served; None beyond `most`
    holes(state, replica)                       the free runs as a table, for people and tests
    pick, alloc, free, largest, cause           inlined into the loop (see loops)
    claim, is_free                              a live block of just these granules; whether they are free
    replay, process, swap                       the compiled kernels

and, unless its places are fixed (static partitions), so that blocks can be moved:

    forget, enter, settle                       a hole is gone; a hole is new; a block stands elsewhere
    reindex                                     the compiled kernel (see mechanisms/changes.py)

A policy imports mechanisms and the loop, never another policy, and knows no remedy.
"""

"""Mesh in plain lists of slots: spans that may share physical pages while every virtual address stays what it was.

    m = Mesh(granules, words)       words: signed 64-bit words, an iterator; granules: 256 to a page, 16 bytes each
    m.alloc(extent)     address in granules, or None       m.free(address)     of a live block
    m.cause(extent)     why alloc just returned None       m.mesh()            a pass at will
    m.blocks            {address: granted}                 m.spans             those that have physical pages
    m.check()           nobody lost, nobody on another's slot, every page accounted for
    m.drop_empty()      the attached spans without a live object are returned too
    m.physical, m.peak_physical, m.virtual_top, m.released (pages), m.passes, m.meshes, m.probes, m.bytes_copied

A span has one list of physical slots; each holds None or the tag of the object that was written there, a number that no
other object ever gets. Its runs are the virtual pages through which the slots are seen, the primary one first:

    runs [0]    A..B....                                             physical    ADCB....  runs [0, 1]
    runs [1]    .DC.....     meshed (the first had 2 live, so had y) ->          A and B still at page 0, C and D at 1

What the words of the semantics leave open, as it is read here:

- A pass that is due by number and one for want of pages are two passes, even before the same alloc.
- Whatever the request, pages are lacking if its new span needs more than are free: a request that no pass can help
  (too-large, capacity) asks for one as well. Whether the used-up span of its class is detached before or after that
  pass cannot be told apart, for a full span is no candidate and in no bin.
- Every pass counts as one, even if it meshes nothing.
- Runs of all kinds of spans share the stacks: a large span of 16 pages may follow one of the class of 8192 bytes.
- An attached span that is empty keeps its pages, also when everything has been freed; `drop_empty` returns them.

Source: Powers, Tench, Berger, McGregor, PLDI 2019; SplitMesher is their algorithm with the two loops exchanged (each
span of the left half looks for its partner before the next one does). A *good* match, one whose two spans have no
meshable probe in an earlier round, is what their lemma 5.3 counts: a span of the right half has at most one, and in
either order it ends up meshed, with its good match or with somebody who came first. So the bound holds for both.
"""

from fractions import Fraction
from math import comb

PAGE = 256  # granules
SIZES = (16, 32, 48, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 640, 768, 896, 1024, 2048, 4096)
SIZES += (8192, 16384)


def size_of(extent):
    """The class of an extent, in bytes; None: large."""
    return next((size for size in SIZES if size >= extent * 16), None)


def slots_of(size):
    return min(max(4096 // size, 8), 256)


def pages_of(size):
    return ceiling(size * slots_of(size), 4096)


def ceiling(count, unit):
    return (count + unit - 1) // unit


def pick(count, words):
    """A number below count: the top 32 bits of a word, scaled; rejected where that would not be uniform."""
    while True:
        bits = (next(words) % 2**64) >> 32
        if bits * count % 2**32 >= 2**32 % count:
            return bits * count // 2**32


def shuffle(entries, words):
    """Fisher and Yates, from the last entry down to the second."""
    for i in reversed(range(1, len(entries))):
        j = pick(i + 1, words)
        entries[i], entries[j] = entries[j], entries[i]


# --- who is meshed with whom: bitmaps are ints, bit i for slot i; pairs are indices into their list -------------------


def meshable(x, y):
    return x & y == 0


def split_mesher(bitmaps, t, words):
    """Deal the spans into two halves and probe: (pairs in order of meshing, probes)."""
    dealt = list(range(len(bitmaps)))
    shuffle(dealt, words)
    pairs, probes = split([bitmaps[n] for n in dealt], t)
    return [(dealt[x], dealt[y]) for x, y in pairs], probes


def split(bitmaps, t):
    """SplitMesher on spans that are dealt already: the first half is L, the rest is R."""
    half = len(bitmaps) // 2
    left, right = bitmaps[:half], bitmaps[half:]
    pairs, probes, taken = [], 0, set()
    for j in range(len(left)):
        for i in range(min(t, len(right))):
            k = (j + i) % len(right)
            if k in taken:
                continue
            probes += 1
            if meshable(left[j], right[k]):
                taken.add(k)
                pairs.append((j, half + k))
                break
    return pairs, probes


def greedy(bitmaps):
    """Each, if still there, with the first later one that it can be meshed with: (pairs, probes)."""
    pairs, probes, taken = [], 0, set()
    for x in range(len(bitmaps)):
        if x in taken:
            continue
        for y in range(x + 1, len(bitmaps)):
            if y in taken:
                continue
            probes += 1
            if meshable(bitmaps[x], bitmaps[y]):
                taken |= {x, y}
                pairs.append((x, y))
                break
    return pairs, probes


def maximum_matching(bitmaps):
    """How many pairs at most, by trying everything: for a dozen spans."""
    if not bitmaps:
        return 0
    first, rest = bitmaps[0], bitmaps[1:]
    alone = maximum_matching(rest)
    partners = [n for n in range(len(rest)) if meshable(first, rest[n])]
    return max([alone] + [1 + maximum_matching(rest[:n] + rest[n + 1 :]) for n in partners])


# --- what is known in closed form about spans whose live slots are drawn at random -----------------------------------


def mesh_probability(b, r1, r2):
    """M1: that two spans of b slots, r1 and r2 of them live, can be meshed."""
    return Fraction(comb(b - r1, r2), comb(b, r2))


def expected_triangles(b, r, spans):
    """M1: triples of spans, r live slots each, of which every two can be meshed."""
    return comb(spans, 3) * mesh_probability(b, r, r) * mesh_probability(b, 2 * r, r)


def expected_good_matches(b, r, spans, t):
    """M2: as a sum over the rounds: in round i a match is good if the i earlier probes of either span failed.

    Exact if `spans` is even and at least 2 t: the probes in question then form a tree, whose edges are independent.
    """
    q = mesh_probability(b, r, r)
    return Fraction(spans, 2) * sum(q * (1 - q) ** (2 * i) for i in range(t))


# --- the policy ------------------------------------------------------------------------------------------------------


class Span:
    """Physical pages, and the virtual runs through which they are seen; a large one has one slot."""

    def __init__(self, size, slots, pages, run):
        self.size = size  # of a slot, bytes
        self.pages = pages
        self.slots = [None] * slots
        self.runs = [run]  # their first pages

    @property
    def live(self):
        return [slot for slot, tag in enumerate(self.slots) if tag is not None]

    @property
    def bitmap(self):
        return sum(2**slot for slot in self.live)

    @property
    def bin(self):
        """0 is the fullest; None: a full or empty span is in no bin."""
        live, slots = len(self.live), len(self.slots)
        if live in (0, slots):
            return None
        if 4 * live >= 3 * slots:
            return 0
        if 4 * live >= 2 * slots:
            return 1
        if 4 * live >= slots:
            return 2
        return 3

    def address(self, slot, run=0):
        return self.runs[run] * PAGE + slot * (self.size // 16)


def leave(members, span):
    """The last one takes its place."""
    members[members.index(span)] = members[-1]
    members.pop()


class Mesh:
    def __init__(self, granules, words=None, placement="random", every=10000, when_full=True, t=64, matching="split"):
        assert granules >= PAGE and granules % PAGE == 0, "the pool is a positive multiple of a page"
        assert placement in ("random", "in-order") and matching in ("split", "greedy")
        self.pool = granules // PAGE
        self.words = words
        self.in_order = placement == "in-order"
        self.every, self.when_full, self.t, self.matching = every, when_full, t, matching
        self.blocks = {}
        self.tags = {}  # address -> what its owner wrote there
        self.spans = []  # in order of birth
        self.attached = {size: None for size in SIZES}
        self.vector = {size: [] for size in SIZES}
        self.bins = {size: [[], [], [], []] for size in SIZES}
        self.returned = {}  # pages -> runs of so many, the last returned on top
        self.virtual_top = 0
        self.physical = self.peak_physical = 0
        self.allocs = self.written = 0
        self.passes = self.meshes = self.probes = self.bytes_copied = self.released = 0

    def alloc(self, extent):
        assert extent >= 1
        if self.every and self.allocs > 0 and self.allocs % self.every == 0:
            self.mesh()
        self.allocs += 1
        if self.when_full and self.lacks_pages(extent):
            self.mesh()
        size = size_of(extent)
        if size is None:
            pages = self.pages_needed(extent)
            span, slot = self.new_span(pages * 4096, 1, pages), 0
        else:
            if not self.vector[size]:
                self.detach(size)
                self.attach(size)
            span = self.attached[size]
            slot = self.vector[size].pop() if span else None
        if span is None:
            return None
        address = span.address(slot)
        self.written += 1
        span.slots[slot] = self.tags[address] = self.written
        self.blocks[address] = span.size // 16
        return address

    def lacks_pages(self, extent):
        """Whether the request needs a new span, for which there are not enough physical pages."""
        size = size_of(extent)
        if size is not None and (self.vector[size] or any(self.bins[size])):
            return False
        return self.pool - self.physical < self.pages_needed(extent)

    def pages_needed(self, extent):
        size = size_of(extent)
        return ceiling(extent, PAGE) if size is None else pages_of(size)

    def detach(self, size):
        self.attached[size] = None  # if there is one it is full, so it enters no bin

    def attach(self, size):
        occupied = [members for members in self.bins[size] if members]
        if occupied:
            members = occupied[0]
            span = members[-1] if self.in_order else members[pick(len(members), self.words)]
            leave(members, span)
        else:
            span = self.new_span(size, slots_of(size), pages_of(size))
        if span is None:
            return
        vector = [slot for slot, tag in enumerate(span.slots) if tag is None]
        if self.in_order:
            vector.reverse()  # the lowest is popped first
        else:
            shuffle(vector, self.words)
        self.attached[size], self.vector[size] = span, vector

    def new_span(self, size, slots, pages):
        if self.pool - self.physical < pages:
            return None
        if self.returned.get(pages):
            run = self.returned[pages].pop()
        else:
            run = self.virtual_top
            self.virtual_top += pages
        self.physical += pages
        self.peak_physical = max(self.peak_physical, self.physical)
        self.spans.append(Span(size, slots, pages, run))
        return self.spans[-1]

    def free(self, address):
        del self.blocks[address]
        span, slot = self.find(address)
        assert span.slots[slot] == self.tags.pop(address)
        before = span.bin
        span.slots[slot] = None
        if span is self.attached.get(span.size):
            vector = self.vector[span.size]
            vector.append(slot)
            if not self.in_order:
                n = len(vector) - 1
                j = pick(n + 1, self.words)
                vector[n], vector[j] = vector[j], vector[n]
            return
        self.update_bin(span, before)
        if not span.live:
            self.give_back(span)

    def find(self, address):
        """Whose slot a virtual address is."""
        for span in self.spans:
            for run in span.runs:
                if run * PAGE <= address < (run + span.pages) * PAGE:
                    slot = (address - run * PAGE) // (span.size // 16)
                    assert (address - run * PAGE) % (span.size // 16) == 0
                    return span, slot
        raise AssertionError(f"{address} is on no page in use")

    def update_bin(self, span, before):
        """The span was in bin `before`: leave it and enter the one where it belongs now, if that is another."""
        if span.bin == before:
            return
        if before is not None:
            leave(self.bins[span.size][before], span)
        if span.bin is not None:
            self.bins[span.size][span.bin].append(span)

    def give_back(self, span):
        self.spans.remove(span)
        self.physical -= span.pages
        for run in span.runs:
            self.returned.setdefault(span.pages, []).append(run)

    def drop_empty(self):
        """The attached spans that are empty are returned like any other, in order of class; no draws."""
        for size, span in self.attached.items():
            if span and not span.live:
                self.attached[size], self.vector[size] = None, []
                self.give_back(span)

    def mesh(self):
        """One pass over all classes of less than a page."""
        self.passes += 1
        for size in SIZES:
            if size < 4096:
                spans = self.candidates(size)
                shuffle(spans, self.words)
                bitmaps = [span.bitmap for span in spans]
                pairs, probes = greedy(bitmaps) if self.matching == "greedy" else split(bitmaps, self.t)
                self.probes += probes
                for x, y in pairs:
                    self.mesh_pair(spans[x], spans[y])

    def candidates(self, size):
        """Detached spans of the class with something live but less than 80 %, in order of primary address."""
        spans = [span for span in self.spans if span.size == size and span is not self.attached[size]]
        spans = [span for span in spans if 0 < 10 * len(span.live) < 8 * len(span.slots)]
        return sorted(spans, key=lambda span: span.runs[0])

    def mesh_pair(self, x, y):
        """The one with fewer live slots, y if equal, is copied into the other, which gets its runs too."""
        copied, kept = (x, y) if len(x.live) < len(y.live) else (y, x)
        leave(self.bins[copied.size][copied.bin], copied)
        before = kept.bin
        for slot in copied.live:
            assert kept.slots[slot] is None, "two live objects on one physical slot"
            kept.slots[slot] = copied.slots[slot]
        self.bytes_copied += len(copied.live) * copied.size
        kept.runs += copied.runs
        self.spans.remove(copied)
        self.physical -= copied.pages
        self.released += copied.pages
        self.meshes += 1
        self.update_bin(kept, before)

    def cause(self, extent):
        """Why alloc(extent), just now, returned None."""
        if self.pages_needed(extent) > self.pool:
            return "too-large"
        size = size_of(extent)
        granted = self.pages_needed(extent) * PAGE if size is None else size // 16
        if self.pool * PAGE - sum(self.blocks.values()) < granted:
            return "capacity"
        return "fragmentation"

    def check(self):
        """Raise unless every object is where its address says, alone, and every list is what the spans make it."""
        # Contents: each live address reads what was written there; as many slots are taken as there are objects.
        assert list(self.blocks) == list(self.tags)
        for address, granted in self.blocks.items():
            span, slot = self.find(address)
            assert span.slots[slot] == self.tags[address] and granted * 16 == span.size
        tags = [span.slots[slot] for span in self.spans for slot in span.live]
        assert sorted(tags) == sorted(self.tags.values()) and len(set(tags)) == len(tags)

        # Pages: physical ones are counted once; each virtual one below the top is in one run, in use or returned.
        assert self.physical == sum(span.pages for span in self.spans)
        assert self.physical <= self.peak_physical <= self.pool
        runs = [(run, span.pages) for span in self.spans for run in span.runs]
        runs += [(run, pages) for pages, stack in self.returned.items() for run in stack]
        assert sorted(run + n for run, pages in runs for n in range(pages)) == list(range(self.virtual_top))
        shared = sum(span.pages * (len(span.runs) - 1) for span in self.spans)
        assert shared <= self.released

        # Classes: only an attached span may be empty; the vector has its free slots; bins have the detached ones.
        for span in self.spans:
            if span.size in SIZES:
                assert (len(span.slots), span.pages) == (slots_of(span.size), pages_of(span.size))
            else:
                assert span.size == span.pages * 4096 > SIZES[-1] and len(span.slots) == 1 == len(span.live)
            assert span.live or span is self.attached[span.size]
            assert len(span.runs) == 1 or span.size < 4096
        for size in SIZES:
            attached = self.attached[size]
            assert attached is None or attached in self.spans
            free = [slot for slot, tag in enumerate(attached.slots) if tag is None] if attached else []
            assert sorted(self.vector[size]) == free
            detached = [span for span in self.spans if span.size == size and span is not attached]
            for n in range(4):
                assert set(self.bins[size][n]) == {span for span in detached if span.bin == n}
                assert len(set(self.bins[size][n])) == len(self.bins[size][n])

"""Recordings of heaptrack --raw: the same events as their .npz, whatever the blocks; bad ones are one clear error."""

import gzip
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import vecalloc as va
from vecalloc.formats import TraceError, streams

SHARED = Path(__file__).parents[2] / "shared" / "traces"
HEAD = b"v 10400 3\nx 6 a.out\nX a.out\nI 1000 5e298d\n"
OWN = b"t 1 0\n+ 11c00 1 77770\n"


def load(tmp_path, text):
    path = tmp_path / "recording"
    path.write_bytes(text)
    return va.load_trace(path)


def pair(lines):
    """The slow way: a dictionary of what lives where. Lines of (op, address, size)."""
    live, free_slots, slots, known = {}, [], 0, set()
    events, counts = [], {"unknown_frees": 0, "double_frees": 0, "missed_frees": 0}

    def free(address):
        slot, size = live.pop(address)
        free_slots.append(slot)
        events.append((slot, ~size))

    for op, address, size in lines:
        if op == "+":
            if address in live:
                counts["missed_frees"] += 1
                free(address)
            if not free_slots:
                free_slots.append(slots)
                slots += 1
            slot = free_slots.pop()
            live[address] = slot, size
            known.add(address)
            events.append((slot, size))
        elif address in live:
            free(address)
        else:
            counts["double_frees" if address in known else "unknown_frees"] += 1
    return events, {kind: n for kind, n in counts.items() if n}


def text_of(lines):
    return b"".join(
        b"+ %x 1 %x\n" % (size, address) if op == "+" else b"- %x\n" % address for op, address, size in lines
    )


@pytest.mark.parametrize("program", ["git_log_p", "jq_group", "sqlite3", "xz_compress"])
def test_a_recording_gives_the_events_of_its_npz(program):
    raw = SHARED / "formats" / f"heaptrack_{program}.raw.zst"
    if not raw.exists():
        pytest.skip("the shared recordings are not here")
    trace, expected = va.load_trace(raw), va.load_trace(SHARED / "recorded" / f"{program}.npz")
    np.testing.assert_array_equal(trace.slot, expected.slot)
    np.testing.assert_array_equal(trace.size, expected.size)
    assert trace.anomalies == {}
    assert len(trace.time) == len(trace) and (np.diff(trace.time) >= 0).all() and trace.time[-1] > 0


LINES = st.lists(
    st.tuples(st.sampled_from("+-"), st.sampled_from([0, 16, 32, 16 << 13, 1 << 40, (1 << 64) - 16]),
              st.integers(0, 1 << 61)),
    max_size=60,
)  # fmt: skip


@pytest.mark.jitless
@given(lines=LINES)
def test_pointers_are_paired_as_a_dictionary_pairs_them(tmp_path_factory, lines):
    trace = load(tmp_path_factory.mktemp("raw"), HEAD + OWN + text_of(lines))
    events, anomalies = pair(lines)
    assert list(zip(trace.slot.tolist(), trace.size.tolist(), strict=True)) == events
    assert trace.anomalies == anomalies


@pytest.mark.parametrize("block", [1, 7, 64, 1000])
def test_blocks_change_nothing(tmp_path, monkeypatch, block):
    rng = np.random.default_rng(1)
    lines = [("+-"[rng.integers(2)], int(rng.integers(300)) * 16, int(rng.integers(4096))) for _ in range(2_000)]
    text = HEAD + OWN + text_of(lines) + b"- 77770\n"
    whole = load(tmp_path, text)
    monkeypatch.setattr(streams, "BLOCK", block)
    pieces = load(tmp_path, text)
    np.testing.assert_array_equal(whole.slot, pieces.slot)
    np.testing.assert_array_equal(whole.size, pieces.size)
    np.testing.assert_array_equal(whole.time, pieces.time)
    assert whole.anomalies == pieces.anomalies
    assert list(zip(whole.slot.tolist(), whole.size.tolist(), strict=True)) == pair(lines)[0]


def test_many_addresses_outgrow_every_table(tmp_path):
    lines = [("+", 16 * i, i) for i in range(50_000)] + [("-", 16 * i, 0) for i in range(50_000)]
    trace = load(tmp_path, HEAD + text_of(lines))
    np.testing.assert_array_equal(trace.slot, np.tile(np.arange(50_000), 2))
    np.testing.assert_array_equal(trace.size, np.concatenate([np.arange(50_000), ~np.arange(50_000)]))


def test_heaptracks_own_pool_is_dropped_with_its_free(tmp_path):
    trace = load(tmp_path, HEAD + OWN + b"+ 8 1 50\n- 77770\n+ 9 1 77770\n- 77770\n+ 11c00 1 90\n")
    assert trace.size.tolist() == [8, 9, ~9, 0x11C00]
    assert trace.anomalies == {}


def test_a_pool_of_that_size_later_on_is_the_programs(tmp_path):
    assert load(tmp_path, HEAD + b"+ 8 1 50\n+ 11c00 1 90\n").size.tolist() == [8, 0x11C00]


def test_clock_lines_give_the_time(tmp_path):
    trace = load(tmp_path, HEAD + b"+ 8 1 50\nc a\n- 50\nR 5\nc 3e8\n+ 8 1 50\n")
    assert trace.time.tolist() == [0.0, 0.01, 1.0]


@pytest.mark.parametrize("pack", ["zstd", "gzip", "plain"])
def test_compressed_by_content_not_by_name(tmp_path, pack):
    text = HEAD + b"+ 8 1 50\n"
    packed = {"zstd": lambda t: pa.compress(t, "zstd", asbytes=True), "gzip": gzip.compress, "plain": bytes}[pack](text)
    assert load(tmp_path, packed).size.tolist() == [8]


def test_a_last_line_that_is_cut_off_is_counted(tmp_path):
    trace = load(tmp_path, HEAD + b"+ 8 1 50\n+ 8 1 6")
    assert trace.size.tolist() == [8] and trace.anomalies == {"truncated_lines": 1}


def test_no_events(tmp_path):
    assert len(load(tmp_path, HEAD)) == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"v 10400 4\n", r"line 1 is 'v 10400 4', not"),
        (b"v 10400 3", "no complete line"),
        (HEAD + b"+ 1 2\n", r"line 5 \('\+ 1 2'\) has too few fields"),
        (HEAD + b"-\n- \n", r"line 6 \('- '\) holds no hexadecimal"),
        (HEAD + b"+ 1 2 3 4\n", r"line 5 \('\+ 1 2 3 4'\) has too many fields"),
        (HEAD + b"+ g 2 3\n", "holds no hexadecimal"),
        (HEAD + b"- 12345678901234567\n", "up to 16 digits"),
        (HEAD + b"+ ffffffffffffffff 2 3\n", "asks for more than"),
        (HEAD + b"+ 2000000000000001 2 3\n", "asks for more than"),
    ],
)
def test_a_bad_line_is_named(tmp_path, text, message):
    with pytest.raises(TraceError, match=message) as caught:
        load(tmp_path, text)
    assert str(tmp_path / "recording") in str(caught.value)


def test_a_line_without_end_is_refused_before_it_is_kept(tmp_path):
    with pytest.raises(TraceError, match="line 5 has more than"):
        load(tmp_path, HEAD + b"X" * (1 << 21))


def test_a_truncated_zst_says_how_far_it_got(tmp_path):
    rng = np.random.default_rng(2)
    lines = [("+", int(a) * 16, int(a) % 5000) for a in rng.integers(1 << 40, size=600_000)]
    packed = pa.compress(HEAD + text_of(lines), "zstd", asbytes=True)
    with pytest.raises(TraceError, match=r"is cut off or damaged .* after line \d{5,} and \d{5,} events"):
        load(tmp_path, packed[: len(packed) * 3 // 4])


def test_a_bomb_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(streams, "LARGEST_INFLATED", 1 << 23)
    with pytest.raises(TraceError, match="inflates to more than"):
        load(tmp_path, pa.compress(HEAD + b"c 1\n" * (1 << 22), "zstd", asbytes=True))


@given(data=st.binary(max_size=200))
def test_noise_is_an_error_or_a_trace(tmp_path_factory, data):
    for text in (b"v 10400 3\n" + data, b"v 10400 3\n+ " + data, b"\x28\xb5\x2f\xfd" + data, data):
        try:
            trace = load(tmp_path_factory.mktemp("noise"), text)
        except TraceError:
            continue
        assert len(trace.slot) == len(trace.size)


PROGRAM = """
#include <stdlib.h>
int main(void) {
    void *p[100];
    for (int i = 0; i < 100; i++) p[i] = malloc(100000 + i);
    p[7] = realloc(p[7], 200000);
    for (int i = 0; i < 99; i++) free(p[i]);
    return 0;
}
"""


def test_a_program_recorded_now(tmp_path):
    heaptrack, compiler = shutil.which("heaptrack"), shutil.which("cc") or shutil.which("gcc")
    if not heaptrack or not compiler:
        pytest.skip("heaptrack or a C compiler is not installed")
    (tmp_path / "main.c").write_text(PROGRAM)
    subprocess.run([compiler, "-O0", "main.c", "-o", "main"], cwd=tmp_path, check=True)
    subprocess.run([heaptrack, "--raw", "-o", "out", "./main"], cwd=tmp_path, check=True, capture_output=True)
    (recording,) = tmp_path.glob("out*")
    trace = va.load_trace(recording)
    asked = np.where(trace.size < 0, ~trace.size, trace.size)
    ours = trace.size[asked >= 100_000]
    expected = [*range(100_000, 100_100), ~100_007, 200_000, *(~(100_000 + i) for i in range(99))]
    expected[expected.index(~100_007, 102)] = ~200_000
    assert ours.tolist() == expected
    assert trace.anomalies == {}

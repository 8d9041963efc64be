"""The `.npz` reader: good files become Traces with recycled slots, bad ones a sentence that helps."""

import io
import json
import os
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from vecalloc import formats
from vecalloc.errors import InputError
from vecalloc.formats import TraceError, npz
from vecalloc.trace import LARGEST_SIZE

pytestmark = pytest.mark.jitless

ROOT = Path(__file__).parents[1]
RECORDED = ROOT.parent / "shared" / "traces" / "recorded"

OP = [0, 0, 1, 0, 1, 0, 0]
ID = [0, 1, 0, 2, 2, 3, 4]
SIZE = [100, 0, 0, 7, 0, 9, 11]


def save(path, op=OP, id=ID, size=SIZE, **others):
    """Write a trace; lists get the types of the form, arrays keep theirs, None leaves an array out."""
    arrays = {"op": (op, np.int8), "id": (id, np.int32), "size": (size, np.int64)}
    kept = {k: v if isinstance(v, np.ndarray) else np.array(v, t) for k, (v, t) in arrays.items() if v is not None}
    np.savez_compressed(path, **kept, **others)
    return path


def message(path):
    """What reading this file says is wrong with it; always begins with its name."""
    with pytest.raises(TraceError) as caught:
        formats.read(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert "\n" not in text
    return text


def members(**arrays):
    """The bytes of `.npy` members by name."""
    found = {}
    for name, array in arrays.items():
        buffer = io.BytesIO()
        np.save(buffer, array)
        found[name + ".npy"] = buffer.getvalue()
    return found


def good_members():
    return members(op=np.array(OP, np.int8), id=np.array(ID, np.int32), size=np.array(SIZE, np.int64))


def write_zip(path, contents):
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in contents.items():
            archive.writestr(name, data)
    return path


@pytest.fixture
def file(tmp_path):
    return tmp_path / "t.npz"


# --- good files ------------------------------------------------------------------------------------------------------


def test_a_small_trace(file):
    trace = formats.read(save(file, meta=json.dumps({"cmd": "x", "events": 7})))
    assert trace.slot.dtype == np.int32 and trace.size.dtype == np.int64
    assert trace.slot.tolist() == [0, 1, 0, 0, 0, 0, 2]  # the last slot freed is the first to be used again
    assert trace.size.tolist() == [100, 0, ~100, 7, ~7, 9, 11]
    assert trace.meta == {"cmd": "x", "events": 7}
    assert trace.time is None and trace.anomalies == {}


def test_the_slot_freed_last_is_used_first(file):
    trace = formats.read(save(file, [0, 0, 0, 1, 1, 0, 0], [0, 1, 2, 0, 2, 3, 4], [1, 2, 3, 0, 0, 4, 5]))
    assert trace.slot.tolist() == [0, 1, 2, 0, 2, 2, 0]
    assert trace.size.tolist() == [1, 2, 3, ~1, ~3, 4, 5]


def test_a_path_may_be_a_string(file):
    assert len(formats.read(str(save(file)))) == 7


def test_an_uncompressed_file_and_other_members_are_fine(file):
    trace = formats.read(write_zip(file, good_members() | members(extra=np.zeros(3)) | {"readme.txt": b"hello"}))
    assert len(trace) == 7 and trace.meta == {}


def test_an_empty_trace(file):
    assert len(formats.read(save(file, [], [], []))) == 0


def test_the_largest_size_is_fine(file):
    assert formats.read(save(file, [0, 1], [0, 0], [LARGEST_SIZE, 0])).size.tolist() == [LARGEST_SIZE, ~LARGEST_SIZE]


def test_slots_are_as_many_as_blocks_live_at_once(file):
    draw = np.random.default_rng(1)
    op, id, size, live, born, peak = [], [], [], [], 0, 0
    for _ in range(3000):
        if live and draw.random() < 0.5:
            op.append(1), id.append(live.pop(draw.integers(len(live)))), size.append(0)
        else:
            op.append(0), id.append(born), size.append(int(draw.integers(1000)))
            live.append(born)
            born, peak = born + 1, max(peak, len(live))
    trace = formats.read(save(file, op, id, size))
    assert trace.slot.max() == peak - 1
    holder, asked = {}, {}
    for event, (slot, signed) in enumerate(zip(trace.slot.tolist(), trace.size.tolist(), strict=True)):
        if op[event] == 0:
            assert slot not in holder and signed == size[event]
            holder[slot] = id[event]
            asked[slot] = signed
        else:
            assert holder.pop(slot) == id[event] and signed == ~asked[slot]


def test_the_committed_recording():
    trace = formats.read(ROOT / "experiments" / "traces" / "sqlite3.npz")
    assert (len(trace), int(trace.is_alloc.sum())) == (686_539, 343_277)


@pytest.mark.skipif(not RECORDED.is_dir(), reason=f"no recorded traces at {RECORDED}")
def test_every_recording_has_the_events_it_says():
    files = sorted(RECORDED.glob("*.npz"))
    assert files
    for path in files:
        trace = formats.read(path)
        live = 2 * int(trace.is_alloc.sum()) - len(trace)
        counts = {"events": len(trace), "objects": int(trace.is_alloc.sum()), "live_at_end": live}
        assert counts == {key: trace.meta[key] for key in counts}, path.name


def test_importing_the_reader_does_not_import_numba():
    code = "import sys, vecalloc.formats.npz; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


# --- files that are no traces ----------------------------------------------------------------------------------------


def test_a_trace_error_is_an_input_error():
    assert issubclass(TraceError, InputError)


def test_a_missing_file(file):
    assert "no such file" in message(file)


def test_a_directory(tmp_path):
    assert "is a directory" in message(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe(file):
    os.mkfifo(file)
    assert "not a regular file" in message(file)


def test_an_empty_file(file):
    file.write_bytes(b"")
    assert "it is empty" in message(file)


def test_no_zip(file):
    file.write_bytes(b"a 0 100\nf 0\n")
    assert "it is no .npz" in message(file)


def test_a_file_cut_anywhere(file):
    whole = save(file, meta="{}").read_bytes()
    for length in range(4, len(whole), 41):
        file.write_bytes(whole[:length])
        assert "truncated or damaged" in message(file)


def test_any_byte_changed_is_a_trace_or_a_trace_error(file):
    whole = save(file, meta='{"a": 1}').read_bytes()
    for at in range(0, len(whole), 3):
        changed = bytearray(whole)
        changed[at] ^= 0x55
        file.write_bytes(changed)
        try:
            formats.read(file)
        except TraceError as error:
            assert str(error).startswith(f"{file}: ")


@pytest.mark.parametrize("name", ["op", "id", "size"])
def test_a_missing_array(file, name):
    text = message(save(file, **{name: None}))
    assert f"but not {name}; " in text


def test_a_zip_without_arrays(file):
    assert "holds no arrays, but not op, id, size" in message(write_zip(file, {"a.txt": b""}))


@pytest.mark.parametrize(
    ("name", "array", "said"),
    [
        ("op", np.array(OP, np.int64), "op is int64 (7,), not int8"),
        ("id", np.array(ID, np.int64), "id is int64 (7,), not int32"),
        ("id", np.array(ID, ">i4"), "id is >i4 (7,), not int32"),
        ("size", np.array(SIZE, np.float64), "size is float64 (7,), not int64"),
        ("size", np.array(SIZE, np.uint64), "size is uint64 (7,), not int64"),
        ("size", np.array([SIZE], np.int64), "size is int64 (1, 7), not int64"),
        ("op", np.array(0, np.int8), "op is int8 (), not int8 (events,)"),
    ],
)
def test_a_wrong_type_or_shape(file, name, array, said):
    assert said in message(save(file, **{name: array}))


class Trap:
    """Ends the tests if it is unpickled."""

    def __reduce__(self):
        return os._exit, (3,)


@pytest.mark.parametrize("name", ["op", "id", "size", "meta"])
def test_nothing_is_unpickled(file, name):
    trap = np.array([Trap()] * 7, dtype=object) if name != "meta" else np.array(Trap(), dtype=object)
    assert f"{name} is object" in message(save(file, **{name: trap}))


def test_different_lengths(file):
    text = message(save(file, size=SIZE[:-1]))
    assert "op has 7 events, id 7, size 6" in text


@pytest.mark.parametrize("meta", ["", "not json", "[1]", "3", "[" * 100_000])
def test_meta_that_is_no_json_object(file, meta):
    assert "not a JSON object" in message(save(file, meta=meta))


@pytest.mark.parametrize("meta", [np.zeros(3), np.array(["{}"]), np.array(b"{}")])
def test_meta_that_is_no_string(file, meta):
    assert "not one string" in message(save(file, meta=meta))


def test_meta_that_is_too_long(file):
    assert "not one string of up to" in message(save(file, meta=" " * (npz.LARGEST_META + 1)))


# --- files that lie about their size ---------------------------------------------------------------------------------


def header(text, version=b"\x01\x00"):
    return b"\x93NUMPY" + version + struct.pack("<H", len(text)) + text.encode()


@pytest.mark.parametrize("shape", ["(8,)", "(6,)", "(1099511627776,)", "(-7,)", "(" + "99999999999, " * 40 + ")"])
def test_a_shape_that_the_member_does_not_hold(file, shape):
    text = header(f"{{'descr': '|i1', 'fortran_order': False, 'shape': {shape}}}\n")
    assert "op says it is int8" in message(write_zip(file, good_members() | {"op.npy": text + bytes(7)}))


@pytest.mark.parametrize("text", ["", "(", "{'descr': ", "-" * 9000 + "1", "x" * 20_000, "{}", "{'a': '''", "[" * 900])
def test_a_header_that_cannot_be_parsed(file, text):
    message(write_zip(file, good_members() | {"op.npy": header(text) + bytes(7)}))


def test_another_npy_version(file):
    data = b"\x93NUMPY\x02\x00" + struct.pack("<I", 0xFFFF_FFFF)
    assert ".npy format (2, 0)" in message(write_zip(file, good_members() | {"op.npy": data}))


@pytest.mark.parametrize("data", [b"", b"\x93NU", b"hello, world"])
def test_a_member_that_is_no_array(file, data):
    assert "cannot be read" in message(write_zip(file, good_members() | {"id.npy": data}))


def test_more_than_the_bound(file, monkeypatch):
    monkeypatch.setattr(npz, "LARGEST_INFLATED", 100)
    assert "more than 100; cut the trace" in message(save(file))


# --- impossible events -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("op", "id", "size", "event", "said"),
    [
        ([0, 2], [0, 0], [1, 0], 1, "op is 2; write 0 for an alloc, 1 for a free"),
        ([0, -1], [0, 0], [1, 0], 1, "op is -1"),
        ([0, 0], [0, 1], [1, -5], 1, "size is -5"),
        ([0, 1], [0, 0], [1, -5], 1, "size is -5"),
        ([0, 1], [0, 0], [1, 5], 1, "the free of id 0 has size 5; write 0 in a free"),
        ([0], [0], [LARGEST_SIZE + 1], 0, f"size is {LARGEST_SIZE + 1}, more than the {LARGEST_SIZE} bytes"),
        ([0], [1], [1], 0, "the alloc has id 1 where 0 is next"),
        ([0, 0], [0, 0], [1, 1], 1, "the alloc has id 0 where 1 is next"),
        ([0, 0, 0], [0, 1, 3], [1, 1, 1], 2, "the alloc has id 3 where 2 is next"),
        ([0, 0], [0, -1], [1, 1], 1, "the alloc has id -1 where 1 is next"),
        ([1], [0], [0], 0, "id 0 is freed, but nothing has been allocated before it"),
        ([0, 1], [0, -1], [1, 0], 1, "id -1 is freed, but only ids 0 to 0"),
        ([0, 1], [0, 2**31 - 1], [1, 0], 1, "id 2147483647 is freed, but only ids 0 to 0"),
        ([0, 1, 0], [0, 1, 1], [1, 0, 1], 1, "id 1 is freed, but only ids 0 to 0 have been allocated before it"),
        ([0, 1, 0, 1], [0, 0, 1, 0], [1, 0, 1, 0], 3, "id 0 is freed, but event 1 has freed it already"),
    ],
)
def test_an_impossible_event(file, op, id, size, event, said):
    text = message(save(file, op, id, size))
    assert f": event {event} (counted from 0): " in text
    assert said in text
    assert "; " in text  # the remedy

"""The reader of pickles: what NumPy writes, what an attacker writes, and a thousand damaged files."""

import pickle
import struct

import numpy as np
import pytest

from data_pipeline.errors import DataError
from data_pipeline.sequence.unpickle import integer_rows, read_pickle
from tests.data_pipeline.sequence import fakes
from tests.data_pipeline.sequence.test_loaders import load

ARRAY = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
ARRAYS = (
    ARRAY,
    np.asfortranarray(ARRAY),
    ARRAY.transpose(1, 0, 2),
    ARRAY.astype(">i4")[:, ::2],
    np.array([True, False]),
    np.float32(2.5),
    np.float64([[1e300]]),
    np.zeros((0, 3), np.uint8),
)


def read(tmp_path, content: bytes, encoding: str = "ASCII"):
    path = tmp_path / "file.pickle"
    path.write_bytes(content)
    return read_pickle(path, encoding)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_and_plain_values(tmp_path, protocol):
    array = ARRAYS[0]
    content = [*ARRAYS, {"twice": [array, array]}, (1, -(2**70), 0.5, None, True, "é", b"\xff\x00"), [], ()]
    found = read(tmp_path, pickle.dumps(content, protocol=protocol))
    for ours, theirs in zip(found[: len(ARRAYS)], ARRAYS, strict=True):
        assert ours.dtype.newbyteorder("=") == theirs.dtype.newbyteorder("=")
        np.testing.assert_array_equal(ours, theirs)
    assert found[len(ARRAYS)]["twice"][0] is found[len(ARRAYS)]["twice"][1] is found[0]
    assert found[-3:] == content[-3:]


def test_arrays_of_python_2_and_numpy_1(tmp_path):
    # What CIFAR-10 was written by: the bytes of an array are a plain string.
    state = b"(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    kind = b"cnumpy\ndtype\nU\x02i2K\x00K\x01\x87R" + state
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    content = array + b"(K\x01K\x02\x85" + kind + b"\x89U\x04\x01\x00\xff\xfftb."
    np.testing.assert_array_equal(read(tmp_path, b"\x80\x02" + content, "bytes"), np.array([1, -1], np.int16))


def text(value: str) -> bytes:
    return b"\x8c" + bytes([len(value)]) + value.encode()


def name(module: str, attribute: str) -> bytes:
    return text(module) + text(attribute) + b"\x93"


def kind(code: str, state: bytes = b"") -> bytes:
    return name("numpy", "dtype") + text(code) + b"\x89\x88\x87R" + state


def state(flags: bytes = b"K\x00", order: str = "<") -> bytes:
    return b"(K\x03" + text(order) + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xff" + flags + b"tb"


BUFFER = name("numpy._core.numeric", "_frombuffer")
SIXTEEN = b"C\x10" + bytes(range(16))


def array(kind: bytes, shape: bytes = b"K\x02\x85", content: bytes = SIXTEEN) -> bytes:
    return BUFFER + b"(" + content + kind + shape + text("C") + b"tR."


HUGE = b"\x8a\x06" + b"\x00" * 5 + b"\x01"  # 2^40
NEW = name("numpy._core.multiarray", "_reconstruct") + name("numpy", "ndarray") + b"K\x00\x85C\x01b\x87R"
ATTACKS = {
    # The two that corrupted memory.
    "an array of objects at a place of the attacker's": (
        name("numpy", "ndarray") + b"(K\x02\x85" + kind("V8", state(b"K\x3f")) + SIXTEEN + b"tR.",
        "dtype 'V8', which is not numeric",
    ),
    "a structure with lying flags": (
        array(kind("V8", b"(K\x03" + text("|") + b"N" + text("a") + b"\x85}NK\x08K\x01K\x00tb")),
        "dtype 'V8', which is not numeric",
    ),
    "a call of the type of arrays": (name("numpy", "ndarray") + b"K\x02\x85\x85R.", "calls something that is no"),
    "a new object of the type of arrays": (name("numpy", "ndarray") + b"K\x02\x85\x85\x81.", "an instruction"),
    "objects": (array(kind("O8")), "dtype 'O8', which is not numeric"),
    "texts": (array(kind("U2")), "dtype 'U2'"),
    "times": (array(kind("M8")), "dtype 'M8'"),
    "complex numbers": (array(kind("c8")), "dtype 'c8'"),
    "flags of a dtype": (array(kind("i8", state(b"K\x3f"))), "state of a dtype"),
    "size of a dtype": (array(kind("i8", b"(K\x03" + text("<") + b"NNNK\x01K\x01K\x00tb")), "state of a dtype"),
    "a byte order": (array(kind("i8", state(order="!"))), "byte order"),
    "a huge shape": (array(kind("i8", state()), HUGE + b"\x85"), "another size"),
    "a negative shape": (array(kind("i8", state()), b"J\xfe\xff\xff\xff\x85"), "a shape that is none"),
    "a huge text": (b"\x8d" + struct.pack("<Q", 2**40) + b"a.", "pickle"),
    "a huge array of bytes": (b"\x96" + struct.pack("<Q", 2**40) + b"a.", "pickle"),
    "a huge number": (b"\x8b" + struct.pack("<i", 2**31 - 1) + b"a.", "pickle"),
    "a huge frame": (b"\x80\x04\x95" + struct.pack("<Q", 2**62) + b"N", "pickle"),
    "the state of a function": (name("numpy", "dtype") + b"N}" + text("call") + b"Ns\x86b.", "state of a _Name"),
    "an array filled twice": (
        NEW + (b"(K\x01K\x02\x85" + kind("i8", state()) + b"\x89" + SIXTEEN + b"tb") * 2 + b".",
        "sets the state of a ndarray",
    ),
    "an item of an array": (array(kind("i8", state()))[:-1] + b"K\x00K\x01s.", "adds to a ndarray"),
    "an item of a list": (b"]K\x00K\x01s.", "adds to a list"),
    "code of another module": (name("os", "system") + text("true") + b"\x85R.", "asks for os.system, which is no"),
    "code by an old instruction": (b"(S'true'\nios\nsystem\n.", "an instruction"),
    "a registered extension": (b"\x82\x01.", "an instruction"),
    "a persistent object": (b"Pname\n.", "an instruction"),
    "a codec": (name("_codecs", "encode") + text("a") + text("zip") + b"\x86R.", "encodes something else"),
    "nothing": (b"", "empty file"),
}  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS)
def test_attacks(tmp_path, attack):
    content, words = ATTACKS[attack]
    with pytest.raises(DataError, match=words):
        read(tmp_path, content)


def test_a_place_in_the_memo_takes_no_memory(tmp_path):
    assert read(tmp_path, b"Nr" + struct.pack("<I", 2**32 - 1) + b".") is None


def test_arrays_larger_than_the_file(tmp_path):
    remembered = b"C\xff" + bytes(255) + b"\x940" + kind("u1") + b"\x940" + BUFFER + b"\x940"
    part = b"h\x02(h\x00h\x01K\xff\x85" + text("C") + b"tR"
    assert len(read(tmp_path, remembered + b"](" + part + b"e.")) == 1
    with pytest.raises(DataError, match="larger than the file"):
        read(tmp_path, remembered + b"](" + part * 30 + b"e.")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([[[1, 2], [3, 4]]], "something else than integers"),
        ([[1.5]], "something else"),
        ([np.array([1.5])], "no integers"),
        ([np.array([np.nan])], "no integers"),
        ([np.array([2**63], np.uint64)], "no integers"),
        ([[2**70]], "64 bits"),
        (["12"], "str where integers"),
        ([[1, 2, 3]] * 5, "more integers than the file"),
    ],
)
def test_values_that_are_no_integers(values, words):
    with pytest.raises(ValueError, match=words):
        integer_rows(values, size=10)


def test_values_that_are_integers():
    rows = integer_rows([3, np.int8(3), [1, 2], np.array([[1.0, 2.0]]), [[1, 2]], [np.int64(7)], np.array(5), []], 20)
    assert [row.tolist() for row in rows] == [[3], [3], [1, 2], [1, 2], [1, 2], [7], [5], []]


def test_lists_of_lists_of_lists_take_no_time():
    nested = [1, 2]
    for _ in range(60):
        nested = [nested, nested]
    with pytest.raises(ValueError, match="something else"):
        integer_rows([nested], size=1000)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"label": 2**30}, "label 1073741824, but a model has at most 10000 labels"),
        ({"input_ids_0": [1] * 7 + [2**30]}, "token 1073741824, but a model has at most 1048576 tokens"),
        ({"input_ids_0": []}, "without tokens"),
    ],
)
def test_numbers_that_no_model_has(tmp_path, changes, words):
    fakes.write_pickles(tmp_path, "text", **changes)
    with pytest.raises(DataError, match=words):
        load("text", tmp_path)


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_a_thousand_damaged_pickles(tmp_path, protocol):
    """Each byte of every fourth file may be anything; instructions and names of a pickle are the likely values."""
    whole = pickle.dumps([{"input_ids_0": ARRAY, "label": np.int64(3)}, {"input_ids_0": [1, 2], "label": 0}], protocol)
    rng = np.random.default_rng(protocol)
    likely = np.frombuffer(b"".join(content for content, _ in ATTACKS.values()), np.uint8)
    outcomes = {"read": 0, "refused": 0}
    for number in range(400):
        damaged = np.frombuffer(whole, np.uint8).copy()
        places = rng.integers(2, len(damaged), 1 + number % 6)
        damaged[places] = rng.choice(likely, len(places)) if number % 4 else rng.integers(256, size=len(places))
        try:
            read(tmp_path, damaged.tobytes())
            outcomes["read"] += 1
        except DataError:
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 20, outcomes

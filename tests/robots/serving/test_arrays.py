"""Messages: what openpi-client packs comes back, and nothing else is made of bytes from outside."""

import pickle

import numpy as np
import pytest

pytest.importorskip("msgpack", reason="the extra `serve` is not installed")

import msgpack

from vipa.robots.serving.arrays import MOST_ENTRIES, pack, unpack


def array(dtype="<f4", shape=(2,), data=b"\0" * 8, marker=b"__ndarray__"):
    return msgpack.packb({marker: True, b"data": data, b"dtype": dtype, b"shape": shape})


@pytest.mark.parametrize("dtype", ["u1", "i2", "<f4", ">f8", "?", "<i8", "f2"])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3, 4)])
def test_arrays_come_back_with_type_and_shape(rng, dtype, shape):
    sent = np.asarray(rng.normal(size=shape) * 50).astype(dtype)
    got = unpack(pack({"a": sent}))["a"]
    assert got.dtype == sent.dtype and got.shape == sent.shape
    np.testing.assert_array_equal(got, sent)


def test_a_slice_that_is_not_contiguous_comes_back(rng):
    sent = rng.integers(0, 255, (8, 6, 3)).astype(np.uint8)[::-1, ::2]
    np.testing.assert_array_equal(unpack(pack([sent]))[0], sent)


def test_our_messages_and_openpi_s_are_the_same_bytes(rng):
    theirs = pytest.importorskip("openpi_client.msgpack_numpy")
    message = {"observation/image": rng.integers(0, 255, (4, 4, 3)).astype(np.uint8), "n": np.float32(2), "t": "x"}
    assert pack(message) == theirs.packb(message)
    back = theirs.unpackb(pack(message))
    np.testing.assert_array_equal(back["observation/image"], message["observation/image"])
    assert unpack(theirs.packb(message))["n"] == 2.0


def test_keys_may_be_texts_as_other_languages_write_them():
    packed = msgpack.packb({"__ndarray__": True, "data": b"\1\2", "dtype": "u1", "shape": [2]})
    np.testing.assert_array_equal(unpack(packed), np.array([1, 2], np.uint8))


class Evil:
    def __reduce__(self):
        raise AssertionError("a pickle was made or opened")


@pytest.mark.parametrize(
    "kind", ["O", "|O", "V8", "c8", "<U4", "S3", "f8,f8", "M8[s]", "f3", "", "__import__('os')"]
)
def test_only_plain_numbers_become_arrays(kind):
    with pytest.raises(ValueError, match="only plain numbers are read"):
        unpack(array(dtype=kind, data=pickle.dumps({}), shape=(1,)))


def test_object_arrays_are_not_sent_either():
    for value in (np.array([Evil()]), np.array(["a"]), np.array([1j]), Evil()):
        with pytest.raises(ValueError, match="cannot be sent"):
            pack({"a": value})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"data": b"\0" * 7}, "7 bytes of data"),
        ({"shape": (2**40, 2**40)}, "bytes of data"),
        ({"shape": (-2,)}, "without its shape"),
        ({"shape": (2.0,)}, "without its shape"),
        ({"shape": (True, 2)}, "without its shape"),
        ({"shape": None}, "without its shape"),
        ({"shape": (1,) * 9}, "without its shape"),
        ({"data": "text"}, "without its shape"),
    ],
)
def test_an_array_that_is_not_its_shape_is_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        unpack(array(**changes))


@pytest.mark.parametrize(
    "data",
    [b"", b"\xc1", b"\x00\x00", b"\x93\x01", b"hello", b"\xd9\xff", b"\xdd\xff\xff\xff\xff", b"\x91" * 5000],
)
def test_bytes_that_are_no_message_are_one_line(data):
    with pytest.raises(ValueError, match=r"^message: ") as caught:
        unpack(data)
    assert "\n" not in str(caught.value)


def test_random_bytes_never_raise_anything_else(rng):
    for _ in range(3000):
        data = rng.integers(0, 256, rng.integers(1, 60)).astype(np.uint8).tobytes()
        try:
            unpack(data)
        except ValueError as error:
            assert str(error).startswith("message: ")  # noqa: PT017 - most random bytes are a message of one number


def test_a_heap_of_nested_lists_is_refused_early():
    with pytest.raises(ValueError, match=f"more than {MOST_ENTRIES}"):
        unpack(msgpack.packb([[[]] * 100] * 100))
    with pytest.raises(ValueError, match="message: "):
        unpack(msgpack.packb(list(range(MOST_ENTRIES + 1))))

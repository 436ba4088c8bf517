"""numpy arrays in msgpack messages, in the form that openpi-client writes: no pickle, plain numbers only.

An array is a map {__ndarray__: true, data: bytes, dtype: "<f4", shape: [..]}, a numpy scalar {__npgeneric__: true,
data: number, dtype: ..}; the keys are bytes there, and may be strings.
"""

import math
import re
from typing import Any

import msgpack
import numpy as np

MOST_ENTRIES = 256
"""Lists and maps of a message, and entries of each: an observation has some ten, and a few megabytes of nested lists
would keep the interpreter busy for seconds."""

PLAIN = re.compile(r"[<>|=]?[biuf](1|2|4|8)")  # numpy's own parser of types never sees anything else


def pack(message: Any) -> bytes:
    """A message of maps, lists, numbers, texts and arrays. ValueError for arrays that are not of plain numbers."""
    packed = msgpack.packb(message, default=_encode)
    assert packed is not None  # only without a buffer of its own
    return packed


def unpack(data: bytes) -> Any:
    """What `pack` or openpi-client packed. ValueError, one line, for anything else."""
    counter = _Counter()
    try:
        return msgpack.unpackb(
            data,
            object_hook=counter.map,
            list_hook=counter.list,
            max_array_len=MOST_ENTRIES,
            max_map_len=MOST_ENTRIES,
            max_ext_len=0,
        )
    except msgpack.exceptions.StackError:
        raise ValueError("message: nested too deeply") from None
    except (msgpack.exceptions.UnpackException, msgpack.exceptions.ExtraData, UnicodeDecodeError) as error:
        raise ValueError(f"message: not msgpack ({str(error) or type(error).__name__})") from None
    except ValueError as error:
        text = str(error)
        raise ValueError(text if text.startswith("message: ") else f"message: not msgpack ({text})") from None


class _Counter:
    """msgpack's hooks: arrays are made where their maps are, and no message has more than MOST_ENTRIES containers."""

    def __init__(self) -> None:
        self.containers = 0

    def list(self, items: list[Any]) -> list[Any]:
        self.containers += 1
        if self.containers > MOST_ENTRIES:
            raise ValueError(f"message: more than {MOST_ENTRIES} lists and maps; send numbers as arrays")
        return items

    def map(self, entries: dict[Any, Any]) -> Any:
        self.list([])
        named = {k.decode(errors="replace") if isinstance(k, bytes) else k: v for k, v in entries.items()}
        if "__ndarray__" in named:
            return _array(named)
        if "__npgeneric__" in named:
            return named.get("data")
        return named


def _array(entries: dict[str, Any]) -> np.ndarray:
    dtype, shape, data = (entries.get(name) for name in ("dtype", "shape", "data"))
    if isinstance(dtype, bytes):
        dtype = dtype.decode(errors="replace")
    if not isinstance(dtype, str) or not PLAIN.fullmatch(dtype):
        raise ValueError(f"message: an array of dtype {str(dtype)[:20]!r}; only plain numbers are read")
    whole = isinstance(shape, list) and len(shape) <= 8 and all(type(n) is int and n >= 0 for n in shape)
    if not isinstance(shape, list) or not whole or not isinstance(data, bytes):
        raise ValueError("message: an array without its shape (whole numbers) or data (bytes)")
    kind = np.dtype(dtype)
    if math.prod(shape) * kind.itemsize != len(data):
        raise ValueError(f"message: an array of {kind} and shape {tuple(shape)} with {len(data)} bytes of data")
    return np.frombuffer(data, kind).reshape(shape)


def _encode(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        if value.dtype.kind not in "biuf":
            raise ValueError(f"message: an array of dtype {value.dtype} cannot be sent; only plain numbers")
        if isinstance(value, np.generic):
            return {b"__npgeneric__": True, b"data": value.item(), b"dtype": value.dtype.str}
        return {
            b"__ndarray__": True,
            b"data": value.tobytes(),
            b"dtype": value.dtype.str,
            b"shape": value.shape,
        }
    raise ValueError(f"message: a {type(value).__name__} cannot be sent")

"""Pickles of arrays, read without trusting them: what is not on one short list is refused, never imported or run.

Several hand data sets are distributed as pickles (official MANO files, HOI4D, OakInk2, TACO, ARCTIC's .npy).
Allowed are containers, numbers, text, numpy arrays (numpy 1 and 2), scipy CSC/CSR matrices, torch CPU/CUDA
tensors and chumpy arrays; numpy arrays come back for all of the last four. chumpy and the names in the file are
never imported: each allowed global is one of the functions below.
"""

import io
import pickle
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np


class _Call:
    """An allowed function as a pickle sees it: it can be called and nothing else (BUILD on it is refused)."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]):
        object.__setattr__(self, "_function", function)

    def __call__(self, *args: Any) -> Any:
        return self._function(*args)

    def __setstate__(self, state: Any) -> None:
        raise ValueError("it tries to change a function")


class _Inert:
    """A value that only names a class to an allowed function."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        raise ValueError("it tries to change a class")


class _Stub:
    """An object whose state is kept and turned into an array by `array`; its own class is never imported."""

    name = ""

    def __init__(self, *args: Any):
        self.state: dict[str, Any] = {}

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, dict):
            raise ValueError(f"{self.name} has a state that is not a dict")
        self.state = state

    def array(self) -> np.ndarray:
        raise NotImplementedError


class _Sparse(_Stub):
    name, compressed_axis = "scipy sparse matrix", 0

    def array(self) -> np.ndarray:
        data, indices, indptr = (np.asarray(self.state[k]) for k in ("data", "indices", "indptr"))
        shape: Any = self.state.get("_shape", self.state.get("shape"))
        rows, columns = (int(n) for n in shape)
        major, minor = (columns, rows) if self.compressed_axis else (rows, columns)
        counts = np.diff(indptr)
        if not (
            len(indptr) == major + 1
            and indptr[0] == 0
            and (counts >= 0).all()
            and indptr[-1] <= len(data)
            and len(indices) == len(data)
            and (indices >= 0).all()
            and (indices < minor).all()
        ):
            raise ValueError("a scipy sparse matrix has indices outside its shape")
        stored = int(indptr[-1])
        dense = np.zeros((major, minor), dtype=data.dtype)
        np.add.at(dense, (np.repeat(np.arange(major), counts), indices[:stored]), data[:stored])
        return dense.T.copy() if self.compressed_axis else dense


class _SparseColumns(_Sparse):
    compressed_axis = 1


class _Chumpy(_Stub):
    """chumpy.Ch (its value is `x`) and chumpy's Select (entries `idxs` of the array `a`)."""

    name = "chumpy array"

    def array(self) -> np.ndarray:
        if "x" in self.state:
            return np.asarray(_plain(self.state["x"]))
        if {"a", "idxs", "preferred_shape"} <= self.state.keys():
            source = np.asarray(_plain(self.state["a"])).ravel()
            return source[np.asarray(self.state["idxs"])].reshape(self.state["preferred_shape"])
        raise ValueError(f"a chumpy object holds no array (it has {sorted(self.state)})")


def _dtype(spec: str, align: bool = False, copy: bool = True) -> np.dtype:
    if not isinstance(spec, str):
        raise ValueError("a numpy dtype is not given by its name")
    return np.dtype(spec, bool(align), True)  # type: ignore[call-overload]  # always a copy: state is set on it


def _bytes(data: Any) -> bytes:
    return data.encode("latin1") if isinstance(data, str) else bytes(data)


def _scalar(dtype: np.dtype, data: Any = b"") -> Any:
    return np.frombuffer(_bytes(data), dtype=dtype, count=1)[0]


def _empty_array(cls: Any, shape: Any, typecode: Any) -> np.ndarray:
    return np.empty(0, dtype=np.int8)  # its shape, type and data are set by the pickled state


def _from_buffer(data: Any, dtype: np.dtype, shape: Any, order: str = "C", *_: Any) -> np.ndarray:
    return np.frombuffer(bytearray(_bytes(data)), dtype=dtype).reshape(shape, order=order)  # type: ignore[call-overload]


def _encode(text: str, codec: str = "latin1") -> bytes:
    if codec not in ("latin1", "latin-1"):
        raise ValueError(f"it asks for the codec {codec!r}")
    return text.encode("latin1")


def _new(cls: Any, *args: Any) -> Any:
    if not (isinstance(cls, type) and issubclass(cls, _Stub)):
        raise ValueError("it makes an object of a class that is not an array")
    return cls()


def _torch_storage(data: bytes) -> Any:
    import torch

    return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)


def _torch_tensor(storage: Any, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Any:
    import torch

    flat = torch.empty(0, dtype=storage.dtype).set_(storage._untyped_storage)
    return torch.as_strided(flat, size, stride, offset)  # refuses to leave the storage


def _torch_parameter(data: Any, *_: Any) -> Any:
    return data


def _table() -> dict[tuple[str, str], Any]:
    table: dict[tuple[str, str], Any] = {
        ("collections", "OrderedDict"): OrderedDict,
        ("_codecs", "encode"): _Call(_encode),
        ("numpy", "dtype"): _Call(_dtype),
        ("numpy", "ndarray"): _Inert(),
        ("torch._utils", "_rebuild_tensor_v2"): _Call(_torch_tensor),
        ("torch._utils", "_rebuild_parameter"): _Call(_torch_parameter),
        ("torch.storage", "_load_from_bytes"): _Call(_torch_storage),
    }
    for core in ("numpy.core", "numpy._core"):
        table[core + ".multiarray", "_reconstruct"] = _Call(_empty_array)
        table[core + ".multiarray", "scalar"] = _Call(_scalar)
        table[core + ".numeric", "_frombuffer"] = _Call(_from_buffer)
    for builtins in ("builtins", "__builtin__"):
        for kind in (set, frozenset, complex, slice, bytearray):
            table[builtins, kind.__name__] = kind
        table[builtins, "object"] = _Inert()
        table[builtins, "bytes"] = _Call(lambda *data: _bytes(*data) if data else b"")
    for copyreg in ("copyreg", "copy_reg"):
        table[copyreg, "_reconstructor"] = _Call(_new)
        table[copyreg, "__newobj__"] = _Call(_new)
    for name, stub in (("csc", _SparseColumns), ("csr", _Sparse)):
        for module in (f"scipy.sparse.{name}", f"scipy.sparse._{name}"):
            table[module, f"{name}_matrix"] = table[module, f"{name}_array"] = stub
    for module, name in (("chumpy.ch", "Ch"), ("chumpy", "Ch"), ("chumpy.reordering", "Select")):
        table[module, name] = _Chumpy
    return table


ALLOWED = _table()
"""(module, name) -> what stands for it. Nothing else can appear in a pickle we read."""


class RestrictedUnpickler(pickle.Unpickler):
    """Reads pickles of arrays; ValueError naming the first global that is not in `ALLOWED`."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise ValueError(f"it asks for {module}.{name}, which is not on the list of array types")
        return ALLOWED[module, name]

    def persistent_load(self, pid: Any) -> Any:
        raise ValueError("it refers to something outside the file")


def _plain(value: Any, done: dict[int, Any] | None = None) -> Any:
    """The same containers with every sparse, chumpy and torch array as numpy; shared parts stay shared."""
    done = {} if done is None else done
    key = id(value)
    if key in done:
        if done[key] is _UNFINISHED:
            raise ValueError("it contains itself")
        return done[key]
    if isinstance(value, (_Call, _Inert)):
        raise ValueError("it holds a function or a class as a value")
    done[key] = _UNFINISHED
    out: Any = value
    if isinstance(value, _Stub):
        out = value.array()
    elif isinstance(value, dict):
        out = type(value)((k, _plain(v, done)) for k, v in value.items())
    elif isinstance(value, (list, tuple)):
        out = type(value)(_plain(v, done) for v in value)
    elif type(value).__module__ == "torch":
        out = getattr(value, "detach")().cpu().numpy()  # noqa: B009
    elif isinstance(value, np.ndarray) and value.dtype == object:
        out = np.empty(value.shape, dtype=object)
        for i in np.ndindex(value.shape):
            out[i] = _plain(value[i], done)
    done[key] = out
    return out


_UNFINISHED = object()


def load_pickle(source: str | Path | BinaryIO | bytes, *, encoding: str = "latin1", name: str = "") -> Any:
    """The content of a pickle of arrays, containers, numbers and text.

    source: a path, an open binary file (read from where it stands) or the bytes. encoding: of text written by
    Python 2. name: what errors call the file; its path by default.
    ValueError, one line, for anything that is not on the list, or for a damaged file; nothing in the file is
    ever imported or executed. FileNotFoundError for a missing path.
    """
    if isinstance(source, (str, Path)):
        with open(source, "rb") as file:
            return load_pickle(file, encoding=encoding, name=name or str(source))
    file = io.BytesIO(source) if isinstance(source, bytes) else source
    label = name or getattr(file, "name", "pickle")
    try:
        return _plain(RestrictedUnpickler(file, encoding=encoding).load())
    except ValueError as error:
        raise ValueError(f"{label}: refused: {_line(error)}") from None
    except Exception as error:
        raise ValueError(f"{label}: damaged or not a pickle of arrays ({_line(error)})") from None


def load_npy(path: str | Path) -> Any:
    """A .npy file: an array, or, where one pickled object is in it (`np.save` of a dict), that object.

    Object arrays go through `load_pickle`, with its errors.
    """
    with open(path, "rb") as file:
        try:
            version = np.lib.format.read_magic(file)
            read = (
                np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            )
            shape, _, dtype = read(file)
        except ValueError as error:
            raise ValueError(f"{path}: not a .npy file ({_line(error)})") from None
        if dtype.hasobject:
            value = load_pickle(file, name=str(path))
            if not isinstance(value, np.ndarray) or value.shape != shape:
                raise ValueError(f"{path}: the pickled array does not fit the header's shape {shape}")
            return value.item() if shape == () else value
        file.seek(0)
        try:
            return np.load(file, allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise ValueError(f"{path}: damaged .npy file ({_line(error)})") from None


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__

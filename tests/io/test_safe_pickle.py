"""Pickles of arrays are read to the last bit; anything else in them is refused and never run."""

import collections
import pickle
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
import torch

from vipa.io.safe_pickle import load_npy, load_pickle


@pytest.mark.parametrize("protocol", range(6))
def test_arrays_and_containers_come_back_equal(protocol):
    rng = np.random.default_rng(0)
    dense = rng.normal(size=(4, 5)) * (rng.random((4, 5)) < 0.4)
    tensor = torch.randn(3, 4)
    value = {
        "array": rng.normal(size=(3, 4)),
        "fortran": np.asfortranarray(rng.normal(size=(3, 4))),
        "empty": np.zeros((0, 3), np.float32),
        "scalar": np.float32(2.5),
        "structured": np.zeros(2, dtype=[("a", "f4"), ("b", "i8")]),
        "objects": np.array([{"q": 1}, None], dtype=object),
        "csc": scipy.sparse.csc_matrix(dense),
        "csr": scipy.sparse.csr_matrix(dense),
        "tensor": tensor[:, 1:],
        "ordered": collections.OrderedDict(b=1, a=2),
        "plain": [(1, "é", b"\xff"), {2, 3}, None, True],
    }
    read = load_pickle(pickle.dumps(value, protocol=protocol))
    for key in ("array", "fortran", "empty", "structured"):
        np.testing.assert_array_equal(read[key], value[key])
        assert read[key].dtype == value[key].dtype
    np.testing.assert_array_equal(read["csc"], dense)
    np.testing.assert_array_equal(read["csr"], dense)
    np.testing.assert_array_equal(read["tensor"], tensor[:, 1:].numpy())
    assert read["scalar"] == 2.5
    assert read["objects"][0] == {"q": 1}
    assert list(read["ordered"].items()) == [("b", 1), ("a", 2)]
    assert read["plain"] == value["plain"]


class _Runs:
    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: [{"a": x}], lambda x: np.array([x], dtype=object)])
def test_code_in_a_pickle_is_refused_and_not_run(tmp_path, wrap):
    marker = tmp_path / "ran"
    (tmp_path / "bad.pkl").write_bytes(pickle.dumps(wrap(_Runs(marker))))
    with pytest.raises(ValueError, match=r"bad\.pkl: refused: it asks for"):
        load_pickle(tmp_path / "bad.pkl")
    assert not marker.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"garbage",
        b"cposix\nsystem\n.",
        b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93.",
        b"\x80\x04\x8c\x0cnumpy.linalg\x8c\x03inv\x93.",
        b"\x80\x04\x8c\x05numpy\x8c\x05dtype\x93.",  # an allowed function as a value
        b"Pfrom_outside\n.",
        b"\x80\x02(lq\x00h\x00a.",  # a list that contains itself
        pickle.dumps(list(range(1000)))[:50],
    ],
)
def test_damaged_and_hostile_bytes_give_one_line(content):
    with pytest.raises(ValueError) as error:
        load_pickle(content)
    assert "\n" not in str(error.value)


def test_an_allowed_function_cannot_be_changed():
    attack = b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n}X\x01\x00\x00\x00aK\x01sb."
    with pytest.raises(ValueError, match="change a function"):
        load_pickle(attack)


def test_a_sparse_matrix_that_points_outside_itself_is_refused():
    matrix = scipy.sparse.csc_matrix(np.eye(3))
    matrix.indices[1] = 1_000_000
    with pytest.raises(ValueError, match="outside its shape"):
        load_pickle(pickle.dumps(matrix))


def test_chumpy_arrays_become_plain_arrays_without_chumpy(monkeypatch):
    assert "chumpy" not in sys.modules
    modules = {n: types.ModuleType(n) for n in ("chumpy", "chumpy.ch", "chumpy.reordering")}
    ch = type("Ch", (), {"__module__": "chumpy.ch"})
    select = type("Select", (), {"__module__": "chumpy.reordering"})
    modules["chumpy.ch"].Ch, modules["chumpy.reordering"].Select = ch, select  # type: ignore[attr-defined]
    with monkeypatch.context() as patch:
        for name, module in modules.items():
            patch.setitem(sys.modules, name, module)
        x, s = ch(), select()
        x.__dict__.update(x=np.arange(24.0).reshape(2, 3, 4), _dirty_vars={"x"})
        s.__dict__.update(a=x, idxs=np.array([0, 5, 7, 23]), preferred_shape=(2, 2))
        files = [pickle.dumps({"x": x, "s": s}, protocol=p) for p in (0, 1, 2)]
    for file in files:
        read = load_pickle(file)
        np.testing.assert_array_equal(read["x"], np.arange(24.0).reshape(2, 3, 4))
        np.testing.assert_array_equal(read["s"], [[0, 5], [7, 23]])


def test_npy_files_with_a_dict_are_read_and_hostile_ones_refused(tmp_path):
    np.save(tmp_path / "dict.npy", {"rot": np.ones((2, 3))}, allow_pickle=True)  # type: ignore[arg-type]
    np.save(tmp_path / "plain.npy", np.arange(4))
    np.save(tmp_path / "bad.npy", {"x": _Runs(tmp_path / "ran")}, allow_pickle=True)  # type: ignore[arg-type]
    (tmp_path / "cut.npy").write_bytes((tmp_path / "plain.npy").read_bytes()[:-3])
    np.testing.assert_array_equal(load_npy(tmp_path / "dict.npy")["rot"], np.ones((2, 3)))
    np.testing.assert_array_equal(load_npy(tmp_path / "plain.npy"), np.arange(4))
    for name in ("bad.npy", "cut.npy"):
        with pytest.raises(ValueError, match=name):
            load_npy(tmp_path / name)
    assert not (tmp_path / "ran").exists()

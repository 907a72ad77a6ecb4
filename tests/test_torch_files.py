"""Files of PyTorch are read without it: as it wrote them, and not where they would do anything else."""

import io
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torches

from rcig.errors import ParamsError
from rcig.external.torch_files import Tensor, load

rng = np.random.default_rng(0)
X, Y = rng.normal(size=(5, 3, 4, 4)).astype(np.float32), np.arange(5)


@pytest.mark.parametrize("old", [False, True], ids=["zip", "before 1.6"])
def test_every_kind_of_tensor_is_read_as_it_was_written(old: bool, tmp_path: Path) -> None:
    kinds = ["double", "float", "half", "bfloat16", "long", "int", "short", "char", "byte", "bool"]
    code = f"""
many = {{kind: getattr(100 * x, kind)() for kind in {kinds}}}
views = [x.permute(0, 2, 3, 1), x[1:3, :, ::2, 1:], x.sum(), x[:0], x[:1].expand(7, 3, 4, 4), torch.nn.Parameter(x)]
whole = {{"many": many, "views": views, "shared": (x, x[2]), "odd": [np.float64(0.5), None, True, "text", x.shape]}}
torch.save(whole, "set.pt", _use_new_zipfile_serialization={not old})
np.savez("many.npz", **{{kind: (t.float() if kind == "bfloat16" else t).numpy() for kind, t in many.items()}})
"""
    torches.write(tmp_path, code, x=X)
    found, many = load(tmp_path / "set.pt"), np.load(tmp_path / "many.npz")
    for kind in kinds:
        array = found["many"][kind].array()
        assert (array.dtype, found["many"][kind].dtype) == (many[kind].dtype, many[kind].dtype)
        np.testing.assert_array_equal(array, many[kind], err_msg=kind)
    expected = [X.transpose(0, 2, 3, 1), X[1:3, :, ::2, 1:], X.sum(), X[:0], np.repeat(X[:1], 7, 0), X]
    for tensor, one in zip(found["views"], expected, strict=True):
        assert tensor.shape == one.shape
        np.testing.assert_allclose(tensor.array(), one, rtol=1e-5)
    np.testing.assert_array_equal(found["shared"][1].array(), X[2])
    assert found["odd"][1:4] == [None, True, "text"]


class Trap:
    def __init__(self, call: Any, *arguments: Any) -> None:
        self.what = call, arguments

    def __reduce__(self) -> Any:
        return self.what


def zipped(path: Path, pickled: bytes, **members: bytes) -> Path:
    """A file as torch.save writes it."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        for name, content in members.items():
            archive.writestr(f"archive/data/{name}", content)
    return path


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("call", [os.system, eval, __import__, getattr, pickle.loads, np.load])
def test_a_file_that_would_run_code_is_refused_and_not_run(call: Any, protocol: int, tmp_path: Path) -> None:
    sprung = tmp_path / "sprung"
    argument = f"touch {sprung}" if call is os.system else f"open({str(sprung)!r}, 'w')"
    whole = pickle.dumps({"images": Trap(call, argument), "labels": Y.tolist()}, protocol)
    (tmp_path / "old.pt").write_bytes(whole)
    for path in (zipped(tmp_path / "new.pt", whole), tmp_path / "old.pt"):
        with pytest.raises(ParamsError, match=r"it would call \S+ when it is loaded, so nothing of it was; save"):
            load(path)
    assert not sprung.exists()


def tensor_pickle(*, size: Any = 4, offset: Any = 0, shape: Any = (4,), strides: Any = (1,), key: Any = "0") -> bytes:
    """That of one tensor of float32, with whatever it says of itself."""

    class Storage:
        pass

    class Writer(pickle._Pickler):
        def persistent_id(self, given: Any) -> Any:
            return ("storage", Name("torch", "FloatStorage"), key, "cpu", size) if isinstance(given, Storage) else None

        def save(self, given: Any, save_persistent_id: bool = True) -> None:
            if isinstance(given, Name):
                self.write(f"c{given.module}\n{given.name}\n".encode())
            else:
                super().save(given, save_persistent_id)

    class Name:
        def __init__(self, module: str, name: str) -> None:
            self.module, self.name = module, name

    stream = io.BytesIO()
    writer = Writer(stream, 2)
    writer.write(b"\x80\x02")
    writer.save(Name("torch._utils", "_rebuild_tensor_v2"))
    writer.save((Storage(), offset, shape, strides, False, {}))
    writer.write(b"R.")
    return stream.getvalue()


def test_a_tensor_that_is_written_by_hand(tmp_path: Path) -> None:
    numbers = np.arange(4, dtype=np.float32)
    found = load(zipped(tmp_path / "set.pt", tensor_pickle(shape=(2, 2), strides=(1, 2)), **{"0": numbers.tobytes()}))
    assert isinstance(found, Tensor)
    np.testing.assert_array_equal(found.array(), numbers.reshape(2, 2).T)


@pytest.mark.parametrize(
    "wrong",
    [
        {"shape": (5,)},
        {"offset": 1},
        {"strides": (2,)},
        {"strides": (-1,)},
        {"offset": -1},
        {"shape": (2, 2)},
        {"shape": (-4,)},
        {"size": 10**12, "shape": (10**12,)},
        {"size": True},
        {"size": "4"},
        {"key": 0},
        {"key": "../../../etc/passwd"},
        {"shape": 4},
    ],
)
def test_a_tensor_beyond_its_numbers_is_refused(wrong: dict[str, Any], tmp_path: Path) -> None:
    path = zipped(tmp_path / "set.pt", tensor_pickle(**wrong), **{"0": bytes(16)})
    with pytest.raises((ValueError, KeyError, TypeError, pickle.UnpicklingError)):
        load(path).array()


def test_a_packed_file_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "set.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", tensor_pickle(size=10**6, shape=(10**6,)))
        archive.writestr("archive/data/0", bytes(4 * 10**6))
    with pytest.raises(ParamsError, match=r"its \d+ bytes would unpack to 4000\d+; save it by torch\.save"):
        load(path)


def test_a_place_for_a_billion_objects_takes_no_memory(tmp_path: Path) -> None:
    """Of a memo of 2³² − 1 places, which Python's own loader in C would make room for."""
    path = zipped(tmp_path / "set.pt", b"\x80\x02]r\xff\xff\xff\xff.")
    assert load(path) == []


def test_room_for_many_bytes_and_changes_of_functions_are_refused(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        load(zipped(tmp_path / "room.pt", b"\x80\x05\x96" + (2**40).to_bytes(8, "little") + b"."))
    change = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nN}X\x0b\x00\x00\x00__wrapped__K\x01s\x86b."
    assert not hasattr(load(zipped(tmp_path / "change.pt", change)), "__wrapped__")

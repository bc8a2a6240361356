"""Reader for PyTorch weight files that needs no PyTorch and executes no code of the file."""

import io
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from training.errors import UserError

_DTYPES = {
    "DoubleStorage": np.float64,
    "FloatStorage": np.float32,
    "HalfStorage": np.float16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ByteStorage": np.uint8,
}
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # of the format before PyTorch 1.6


class _Storage(NamedTuple):
    """Reference to a flat array in the file."""

    key: str
    dtype: Any


class _TensorView(NamedTuple):
    """Strided view of a storage."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Unpickler(pickle.Unpickler):
    """Unpickles tensors and ordered dictionaries, and rejects all other types."""

    def find_class(self, module, name):
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda storage, offset, shape, strides, *_: _TensorView(
                storage, offset, shape, strides
            )
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        raise pickle.UnpicklingError(f"it contains a {module}.{name}")

    def persistent_load(self, pid):
        kind, dtype, key, *_ = pid
        if kind != "storage":
            raise pickle.UnpicklingError(f"it refers to a {kind}")
        return _Storage(str(key), dtype)


def read_state_dict(path: Path) -> dict[str, np.ndarray]:
    """Read the arrays of a state dict by name.

    Raises:
        UserError: if the file is not a state dict.
    """
    try:
        with path.open("rb") as file:
            is_zip = zipfile.is_zipfile(file)
            entries, arrays = _read_zip(file) if is_zip else _read_legacy(file)
        return {
            name: _to_array(arrays, x) for name, x in entries.items() if isinstance(x, _TensorView)
        }
    except (
        OSError,
        pickle.UnpicklingError,
        EOFError,
        KeyError,
        ValueError,
        AttributeError,
    ) as error:
        raise UserError(
            f"{path} is not a state dict saved by PyTorch ({error}): download the file again."
        ) from error


def _read_zip(file):
    """Read the format since PyTorch 1.6: a pickle, and a file for each storage."""
    with zipfile.ZipFile(file) as archive:
        (pickle_name,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))
        entries = _Unpickler(io.BytesIO(archive.read(pickle_name))).load()
        directory = pickle_name.removesuffix("data.pkl") + "data/"
        return entries, {
            x.storage: np.frombuffer(archive.read(directory + x.storage.key), x.storage.dtype)
            for x in entries.values()
            if isinstance(x, _TensorView)
        }


def _read_legacy(file):
    """Read the format before PyTorch 1.6: five pickles, then each storage after its length."""
    file.seek(0)
    if _Unpickler(file).load() != _LEGACY_MAGIC:
        raise pickle.UnpicklingError("its magic number is wrong")
    _Unpickler(file).load()  # protocol version
    _Unpickler(file).load()  # byte order and type sizes of the machine that wrote the file
    entries = _Unpickler(file).load()
    storages = {x.storage.key: x.storage for x in entries.values() if isinstance(x, _TensorView)}
    arrays = {}
    for key in _Unpickler(file).load():
        (count,) = np.frombuffer(file.read(8), np.int64)
        storage = storages[str(key)]
        size = int(count) * np.dtype(storage.dtype).itemsize
        arrays[storage] = np.frombuffer(file.read(size), storage.dtype)
    return entries, arrays


def _to_array(arrays, view):
    values = arrays[view.storage][view.offset :]
    strides = [n * values.itemsize for n in view.strides]
    return np.array(np.lib.stride_tricks.as_strided(values, view.shape, strides))

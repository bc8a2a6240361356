"""Arrays out of a file that `torch.save` wrote, without PyTorch and without running its code."""

import io
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from training.errors import UserError

_TYPES = {
    "DoubleStorage": np.float64,
    "FloatStorage": np.float32,
    "HalfStorage": np.float16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ByteStorage": np.uint8,
}
_MAGIC = 0x1950A86A20F9469CFC6C  # of the format before PyTorch 1.6


class _Storage(NamedTuple):
    """A flat array, perhaps yet to be read."""

    key: str
    dtype: Any


class _Lazy(NamedTuple):
    """A view of a storage."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Unpickler(pickle.Unpickler):
    """Knows what a state dict is made of, and refuses everything else."""

    def find_class(self, module, name):
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda storage, offset, shape, strides, *_: _Lazy(
                storage, offset, shape, strides
            )
        if module == "torch" and name in _TYPES:
            return _TYPES[name]
        raise pickle.UnpicklingError(f"it holds a {module}.{name}")

    def persistent_load(self, pid):
        kind, dtype, key, *_ = pid
        if kind != "storage":
            raise pickle.UnpicklingError(f"it refers to a {kind}")
        return _Storage(str(key), dtype)


def read(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a state dict by name.

    Raises:
        UserError: if it is no such file.
    """
    try:
        with path.open("rb") as file:
            found, flat = _read_zip(file) if zipfile.is_zipfile(file) else _read_legacy(file)
        return {name: _view(flat, x) for name, x in found.items() if isinstance(x, _Lazy)}
    except (
        OSError,
        pickle.UnpicklingError,
        EOFError,
        KeyError,
        ValueError,
        AttributeError,
    ) as error:
        raise UserError(f"{path} is no file of weights that PyTorch saved ({error})") from error


def _read_zip(file):
    """As written since PyTorch 1.6: a pickle and a file for each storage."""
    with zipfile.ZipFile(file) as archive:
        (entry,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))
        found = _Unpickler(io.BytesIO(archive.read(entry))).load()
        folder = entry.removesuffix("data.pkl") + "data/"
        return found, {
            x.storage: np.frombuffer(archive.read(folder + x.storage.key), x.storage.dtype)
            for x in found.values()
            if isinstance(x, _Lazy)
        }


def _read_legacy(file):
    """As written before: five pickles, then every storage behind its length."""
    file.seek(0)
    if _Unpickler(file).load() != _MAGIC:
        raise pickle.UnpicklingError("it does not begin as such a file")
    _Unpickler(file).load()  # version of the protocol
    _Unpickler(file).load()  # how the machine that wrote it orders bytes
    found = _Unpickler(file).load()
    storages = {x.storage.key: x.storage for x in found.values() if isinstance(x, _Lazy)}
    flat = {}
    for key in _Unpickler(file).load():
        (count,) = np.frombuffer(file.read(8), np.int64)
        storage = storages[str(key)]
        size = int(count) * np.dtype(storage.dtype).itemsize
        flat[storage] = np.frombuffer(file.read(size), storage.dtype)
    return found, flat


def _view(flat, lazy):
    values = flat[lazy.storage][lazy.offset :]
    strides = [n * values.itemsize for n in lazy.strides]
    return np.array(np.lib.stride_tricks.as_strided(values, lazy.shape, strides))

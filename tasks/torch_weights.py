"""Reader for PyTorch weight files that needs no PyTorch and executes no code of the file."""

import hashlib
import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
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


class WeightFile(NamedTuple):
    """A published file of weights.

    Attributes:
        name: name of the file.
        sha256: first digits of its SHA-256.
        url: address to download it from.
    """

    name: str
    sha256: str
    url: str

    def read(self, file: str, key: str) -> dict[str, np.ndarray]:
        """Read the arrays of the file by name.

        Args:
            file: path of the file; it may have another name.
            key: config key that contains the path.

        Raises:
            UserError: if the file does not exist, or contains other weights.
        """
        path = Path(file).expanduser()
        if not path.is_file():
            raise UserError(f"{key}={file!r} does not exist: download {self.name} from {self.url}.")
        with path.open("rb") as opened:
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
        if not digest.startswith(self.sha256):
            raise UserError(
                f"{path} is not {self.name}, because its SHA-256 begins with {digest[:8]}: "
                f"download it from {self.url}."
            )
        return read_state_dict(path)


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


class _Parameter:
    """Parameter as saved before PyTorch 0.4: its tensor is the argument, or part of the state."""

    def __init__(self, view: Any = None):
        self.view = view

    def __setstate__(self, state):
        if len(state) == 5:
            self.view = state[0]


class _Unpickler(pickle.Unpickler):
    """Unpickles tensors and ordered dictionaries, and rejects all other types."""

    def find_class(self, module, name):
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch._utils" and name in ("_rebuild_tensor", "_rebuild_tensor_v2"):
            return lambda storage, offset, shape, strides, *_: _TensorView(
                storage, offset, shape, strides
            )
        if (module, name) == ("torch.nn.parameter", "Parameter"):
            return _Parameter
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
        return {name: _to_array(arrays, view) for name, view in entries.items()}
    except (
        OSError,
        pickle.UnpicklingError,
        EOFError,
        KeyError,
        TypeError,
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
        entries = _tensor_views(_Unpickler(io.BytesIO(archive.read(pickle_name))).load())
        directory = pickle_name.removesuffix("data.pkl") + "data/"
        return entries, {
            x.storage: np.frombuffer(archive.read(directory + x.storage.key), x.storage.dtype)
            for x in entries.values()
        }


def _read_legacy(file):
    """Read the format before PyTorch 1.6: five pickles, then each storage after its length."""
    file.seek(0)
    if _Unpickler(file).load() != _LEGACY_MAGIC:
        raise pickle.UnpicklingError("its magic number is wrong")
    _Unpickler(file).load()  # protocol version
    _Unpickler(file).load()  # byte order and type sizes of the machine that wrote the file
    entries = _tensor_views(_Unpickler(file).load())
    storages = {x.storage.key: x.storage for x in entries.values()}
    arrays = {}
    for key in _Unpickler(file).load():
        (count,) = np.frombuffer(file.read(8), np.int64)
        storage = storages[str(key)]
        size = int(count) * np.dtype(storage.dtype).itemsize
        arrays[storage] = np.frombuffer(file.read(size), storage.dtype)
    return entries, arrays


def _tensor_views(entries: Mapping[str, Any]) -> dict[str, _TensorView]:
    """Select the tensors and the parameters of a state dict."""
    views = {name: x.view if isinstance(x, _Parameter) else x for name, x in entries.items()}
    return {name: x for name, x in views.items() if isinstance(x, _TensorView)}


def _to_array(arrays, view):
    values = arrays[view.storage][view.offset :]
    strides = [n * values.itemsize for n in view.strides]
    return np.array(np.lib.stride_tricks.as_strided(values, view.shape, strides))

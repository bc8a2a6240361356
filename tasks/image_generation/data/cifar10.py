"""CIFAR-10 (Krizhevsky 2009) in the forms in which it is distributed."""

import codecs
import io
import pickle
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tasks.image_generation.data.image_files import folder
from tasks.image_generation.data.in_memory import InMemoryImages
from tasks.image_generation.data.tfds import tfds
from tasks.images import crop_and_resize, image_from_array
from training.errors import UserError, first_line

ARCHIVE, UNPACKED = "cifar-10-python.tar.gz", "cifar-10-batches-py"
BATCHES = {"train": [f"data_batch_{n}" for n in range(1, 6)], "test": ["test_batch"]}
CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
_RECONSTRUCT: Any = np.zeros(0).__reduce__()[0]  # the function that pickles of arrays call
_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): codecs.encode,  # of bytes, in pickles that Python 3 wrote
}


def cifar10(resolution: int, channels: int, *, dir: str) -> Mapping[str, Any]:
    """CIFAR-10 from a directory in one of these forms.

    - the official Python version: `cifar-10-python.tar.gz`, or its content `cifar-10-batches-py`;
    - class folders or zip archives of them: `train/CLASS/x.jpg` and `test/CLASS/y.jpg`, or
      `train.zip` and `test.zip`. JPEG files are not the original images;
    - `cifar10` as prepared by `python -m tasks.prepare cifar10 --data_dir=DIR`.

    Raises:
        UserError: if the directory has none of these.
    """
    root = Path(dir).expanduser()
    for name in (ARCHIVE, UNPACKED):
        if dir and (root / name).exists():
            return _read_batches(root / name, resolution, channels)
    if dir and (root / "cifar10").is_dir():
        arguments = {"dataset": "cifar10", "data_dir": dir, "test_split": "test"}
        return tfds(resolution, channels, **arguments)
    if dir and any((root / name).exists() for name in ("train", "train.zip")):
        return folder(resolution, channels, dir=dir)
    raise UserError(
        f"CIFAR-10 is not in data.dir={dir!r}: download {ARCHIVE} from "
        "https://www.cs.toronto.edu/~kriz/cifar.html, and set --config.data.dir to its folder."
    )


def _read_batches(path: Path, resolution: int, channels: int) -> dict[str, InMemoryImages]:
    """Read the official Python version."""
    names = [name for batches in BATCHES.values() for name in batches]
    try:
        if path.is_dir():
            contents = {name: (path / name).read_bytes() for name in names}
        else:
            contents = _extract(path, names)
        batches = {name: _load(content) for name, content in contents.items()}
        splits = {}
        for split, members in BATCHES.items():
            pixels = np.concatenate([batches[name][b"data"] for name in members])
            labels = np.concatenate([batches[name][b"labels"] for name in members])
            images = pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
            splits[split] = images.astype(np.uint8), labels.astype(np.int32)
    except Exception as error:  # truncated, of another form, unsafe: many types
        raise UserError(
            f"{path} is not the Python version of CIFAR-10 ({first_line(error)}): download "
            "it again from https://www.cs.toronto.edu/~kriz/cifar.html."
        ) from error
    return {
        split: InMemoryImages(_convert(images, resolution, channels), labels, CLASSES)
        for split, (images, labels) in splits.items()
    }


def _extract(path: Path, names: list[str]) -> dict[str, bytes]:
    with tarfile.open(path) as archive:
        files = {name: archive.extractfile(f"{UNPACKED}/{name}") for name in names}
        return {name: file.read() for name, file in files.items() if file}


def _convert(images, resolution, channels):
    if (resolution, channels) == images.shape[2:]:
        return images
    converted = (image_from_array(image, channels) for image in images)
    return np.stack([crop_and_resize(image, resolution) for image in converted])


def _load(content: bytes) -> dict[bytes, Any]:
    """Unpickle a dictionary of NumPy arrays and lists, written by Python 2."""
    return _Unpickler(io.BytesIO(content), encoding="bytes").load()


class _Unpickler(pickle.Unpickler):
    """Unpickler that constructs NumPy arrays only, because pickles can run any code."""

    def find_class(self, module, name):
        """Return an allowed class or function."""
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it contains {module}.{name}")
        return _ALLOWED[module, name]

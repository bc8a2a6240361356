"""Annotations that a fixed network computes once, kept in array_record files."""

import functools
import io
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from array_record.python.array_record_data_source import ArrayRecordDataSource
from flax import nnx
from jaxtyping import Float, Float16, Integer, UInt8

from models import vgg
from tasks.captioning.data.image_files import ImageFiles
from tasks.files import digest
from tasks.records import is_complete, write_records
from tasks.torch_weights import WeightFile
from training import hosts
from training.errors import UserError, first_line
from training.run import make_writable_dir

VGG_FILE = WeightFile(
    "vgg19-dcbb9e9d.pth", "dcbb9e9d", "https://download.pytorch.org/models/vgg19-dcbb9e9d.pth"
)
IMAGES_PER_FILE, BATCH = 512, 16  # images of a feature file, and of a call of the network
DIRECTORY = "features"  # in the directory of the images

Network = Callable[[UInt8[np.ndarray, "B R R 3"]], Float[np.ndarray, "B P C"]]


class Encoder(NamedTuple):
    """Fixed network that maps images to annotations.

    Attributes:
        fingerprint: identifies the network and its weights.
        load: reads the weights and returns the network.
    """

    fingerprint: str
    load: Callable[[], Network]


def vgg_encoder(file: str) -> Encoder:
    """Return VGG-19's `conv5_4` as in Xu et al. 2015: 14 x 14 annotations of width 512.

    Args:
        file: path of `VGG_FILE`, which is read by `Encoder.load`.
    """

    def load():
        state_dict = VGG_FILE.read(file, key="data.vgg_weights")
        weights = {name: jnp.asarray(state_dict[name]) for name in vgg.weight_shapes()}
        graphdef, params = nnx.split(vgg.VGG19(weights))

        @jax.jit
        def apply(params, images):
            maps = nnx.merge(graphdef, params)(vgg.normalize(images))
            return maps.reshape(len(maps), -1, maps.shape[-1])

        return lambda images: np.asarray(apply(params, images))

    return Encoder(f"vgg19 conv5_4 {VGG_FILE.sha256}", load)


class Features:
    """Annotations of a range of images, indexed by an array of numbers; see `open_features`."""

    def __init__(self, directory: Path, source: ArrayRecordDataSource, images: range):
        self.directory, self._source, self._images = directory, source, images

    def __len__(self) -> int:
        return len(self._images)

    def select(self, images: range) -> "Features":
        """Return the features of a range of the images."""
        return Features(self.directory, self._source, self._images[images.start : images.stop])

    def __getitem__(self, indices: Integer[np.ndarray, " B"]) -> Float16[np.ndarray, "B P C"]:
        try:
            records = self._source.__getitems__([self._images[int(i)] for i in indices])
        except RuntimeError as error:
            raise UserError(
                f"The features in {self.directory} are damaged ({first_line(error)}): delete the "
                "directory, so that they are computed again."
            ) from error
        return np.stack([np.load(io.BytesIO(record)) for record in records])


def open_features(files: ImageFiles, encoder: Encoder, directory: Path) -> Features:
    """Compute the features that are missing in a directory, and open all of them.

    The features of a dataset are in a subdirectory that is named after a digest of the names and
    sizes of the image files, the resolution and the encoder. They are written in several files,
    each of them atomically, so that an interrupted computation is continued. With several hosts,
    all of them write to the same directory.

    Args:
        files: images.
        encoder: computes the features.
        directory: directory of the features of all datasets and encoders.

    Raises:
        UserError: if the directory is not writable, the weights of the encoder are not available,
            or an image cannot be read.
    """
    directory = directory / _digest(files, encoder)
    make_writable_dir(directory)
    shards = [
        range(start, min(start + IMAGES_PER_FILE, len(files)))
        for start in range(0, len(files), IMAGES_PER_FILE)
    ]
    path = lambda shard: directory / f"{shard.start:06d}-{shard.stop:06d}.array_record"
    network = functools.cache(encoder.load)

    def compute(shard):
        if not is_complete(path(shard), len(shard)):
            write_records(path(shard), _encode(files, shard, network()))
            progress = f"{shard.stop:,} of {len(files):,} images"
            print(f"Computed the features of {progress} in {directory}.", file=sys.stderr)

    for _ in hosts.map_over_hosts(compute, shards):
        pass
    source = ArrayRecordDataSource([path(shard) for shard in shards])
    return Features(directory, source, range(len(files)))


def _digest(files: ImageFiles, encoder: Encoder) -> str:
    header = f"{encoder.fingerprint} {files.resolution}\n".encode()
    return digest([header, *files.names_and_sizes()])


def _encode(files: ImageFiles, shard: range, network: Network) -> Iterator[bytes]:
    """Yield the features of a range of images, each in the format of `np.save`."""
    starts = range(shard.start, shard.stop, BATCH)
    # All batches have the same shape: the last image is repeated.
    batches = [np.minimum(np.arange(start, start + BATCH), shard.stop - 1) for start in starts]
    with ThreadPoolExecutor() as pool:
        for start, images in zip(starts, pool.map(files.__getitem__, batches), strict=True):
            for features in network(images)[: shard.stop - start].astype(np.float16):
                buffer = io.BytesIO()
                np.save(buffer, features)
                yield buffer.getvalue()

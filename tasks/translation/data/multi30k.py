"""Multi30k, task 1: 29,000 English image captions with translations.

Source: Elliott et al. 2016 (https://aclanthology.org/W16-3210). The test set is test_2016_flickr.
"""

import gzip
import hashlib
import urllib.request
import zlib
from pathlib import Path

from tasks.text import read_bytes
from tasks.translation.data.pairs import Pairs
from tasks.translation.data.text_files import find_file, open_split
from training.errors import UserError
from training.files import atomic_write

DEFAULT_DIR = "~/.cache/attention_atlas/multi30k"
URL = "https://raw.githubusercontent.com/multi30k/dataset/master/data/task1/raw/"
STEMS = {"train": "train", "dev": "val", "test": "test_2016_flickr"}
# Checksums of the decompressed text, because the bytes of a .gz file depend on the compressor.
SHA256 = {
    "train.en": "460a15fbd157e34a7a9957ee388c1ca247fe47af3ef25fb50442af6c274e0fc6",
    "train.de": "2c2b73fd2b548fbcde3a875e0a78d6ee94d498bfdee6bd3eae3945779e9ddf72",
    "train.fr": "5925a3c18f1587b6b54b87743106e6e8ab93618edb6f65d19eac0621f853a10d",
    "val.en": "1f2a23d992769b5b3d209b0a10dd0b77c08cceb1f20dfb97ed0aafa49d107227",
    "val.de": "660e09eb7e1da2f856ea13ee5ad3cf6d36b3d5b0b733c857e94c5747a3dfc660",
    "val.fr": "5304e444d842e962b2dda4d816b70b22a1765b15401642b7ca37a67477e708dc",
    "test_2016_flickr.en": "399a4382932c1aadd3ceb9bef1008d388a64c76d4ae4e9d4728c6f4301cac182",
    "test_2016_flickr.de": "4be6b5b3236b79c25475c6bb829800a7ce559e9ba7a1f6c2394fe4d40be46d16",
    "test_2016_flickr.fr": "cb3160d69b002bb638e66cc7612fcd56cb0af82eadc9c142dedc438afb885ef6",
}
LANGUAGES = ("en", "de", "fr")


def read_directory(directory: Path, source: str, target: str) -> dict[str, Pairs]:
    """Read the corpus from a directory, after downloading the files that are missing there.

    Raises:
        UserError: if the corpus does not have a language, the checksum of a file differs, the
            server cannot be reached, or the directory is not writable.
    """
    for language in (source, target):
        if language not in LANGUAGES:
            raise UserError(f"Multi30k has no {language!r}: choose from {', '.join(LANGUAGES)}.")
    for stem in STEMS.values():
        for language in (source, target):
            if path := find_file(directory, stem, language):
                _verify(f"{stem}.{language}", read_bytes(path), str(path))
            else:
                _download(f"{stem}.{language}", directory)
    return {
        split: open_split(directory, stem, source, target, split) for split, stem in STEMS.items()
    }


def _verify(name: str, text: bytes, origin: str) -> None:
    if hashlib.sha256(text).hexdigest() != SHA256[name]:
        raise UserError(
            f"{origin} is not {name} of Multi30k (its checksum differs): remove or replace it, or "
            "use data.corpus=text_files for other data."
        )


def _download(name: str, directory: Path) -> None:
    """Download, verify and atomically write one file."""
    url = f"{URL}{name}.gz"
    try:
        with urllib.request.urlopen(url, timeout=30) as response:
            compressed = response.read()
        _verify(name, gzip.decompress(compressed), url)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(
            f"Multi30k is not in {directory} and cannot be downloaded ({error}): connect to the "
            f"internet, or copy {name} or {name}.gz and the other files of {URL} to that "
            "directory, or set data.dir to a directory that has them."
        ) from error
    try:
        with atomic_write(directory / f"{name}.gz") as file:
            file.write(compressed)
    except OSError as error:
        raise UserError(
            f"Cannot write Multi30k to {directory} ({error}): set data.dir to a writable directory."
        ) from error

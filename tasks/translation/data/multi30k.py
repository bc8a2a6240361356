"""Multi30k, task 1: 29,000 image captions in English with translations.

Source: Elliott et al. 2016 (https://aclanthology.org/W16-3210). Tested on test_2016_flickr.
"""

import gzip
import hashlib
import urllib.request
import zlib
from pathlib import Path

from tasks.translation.data.pairs import TextPairs
from tasks.translation.data.text_files import find, read_bytes, read_pair
from training.errors import UserError
from training.files import replacing

URL = "https://raw.githubusercontent.com/multi30k/dataset/master/data/task1/raw/"
STEMS = {"train": "train", "dev": "val", "test": "test_2016_flickr"}
# Of the decompressed text, as the bytes of a .gz depend on who compressed it.
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


def read(folder: Path, source: str, target: str) -> dict[str, TextPairs]:
    """Reads the corpus from a folder, after downloading what the folder lacks.

    Raises:
        UserError: a language it does not have, a file that is not the corpus's, no connection, an
            unwritable folder.
    """
    for language in (source, target):
        if language not in LANGUAGES:
            raise UserError(f"multi30k has no {language!r}: choose from {', '.join(LANGUAGES)}")
    for stem in STEMS.values():
        for language in (source, target):
            if path := find(folder, stem, language):
                _check(f"{stem}.{language}", read_bytes(path), str(path))
            else:
                _download(f"{stem}.{language}", folder)
    return {split: read_pair(folder, stem, source, target) for split, stem in STEMS.items()}


def _check(name: str, text: bytes, origin: str) -> None:
    if hashlib.sha256(text).hexdigest() != SHA256[name]:
        raise UserError(
            f"{origin} is not multi30k's {name} (its checksum differs): remove or replace it, or "
            "train on a text of your own with data.corpus=text_files"
        )


def _download(name: str, folder: Path) -> None:
    """Fetches one file; it appears in the folder whole and checked or not at all."""
    url = f"{URL}{name}.gz"
    try:
        with urllib.request.urlopen(url, timeout=30) as response:
            compressed = response.read()
        _check(name, gzip.decompress(compressed), url)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(
            f"multi30k is not in {folder} and cannot be downloaded ({error}): go online, or put "
            f"{name} or {name}.gz and the other files of {URL} there, or set data.dir to a folder "
            "that has them"
        ) from error
    try:
        with replacing(folder / f"{name}.gz") as file:
            file.write(compressed)
    except OSError as error:
        raise UserError(
            f"cannot write multi30k to {folder} ({error}): set data.dir to a folder you may write"
        ) from error

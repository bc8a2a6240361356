"""Generated archives in the form of Omniglot's."""

import io
import zipfile
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from tasks.few_shot.omniglot import ARCHIVES

ALPHABETS, CHARACTERS, DRAWINGS = 2, 6, 6
RUNS = 2


def png(ink) -> bytes:
    """Encode a drawing, black ink (1) on white (0)."""
    buffer = io.BytesIO()
    Image.fromarray(np.where(ink, 0, 255).astype(np.uint8)).convert("1").save(buffer, "PNG")
    return buffer.getvalue()


def drawings(seed: int, count: int, flip: float = 0.02):
    """Yield drawings of a random character of 16 x 16 pixels, with noise."""
    rng = np.random.default_rng(seed)
    character = rng.random((16, 16)) < 0.3
    for _ in range(count):
        yield character ^ (rng.random((16, 16)) < flip)


def first_seed(name: str) -> int:
    """Return the seed of the first character of an archive."""
    return 1000 * zlib.crc32(name.encode())


def write_archives(directory: Path) -> Path:
    """Write all archives, with the names of the official ones, and return the directory."""
    for name in dict.fromkeys(name for names in ARCHIVES.values() for name in names if name):
        with zipfile.ZipFile(directory / f"{name}.zip", "w") as archive:
            for alphabet in range(ALPHABETS):
                for character in range(CHARACTERS):
                    folder = f"{name}/alphabet_{alphabet}/character{character + 1:02}"
                    seed = first_seed(name) + 100 * alphabet + character
                    for n, ink in enumerate(drawings(seed, DRAWINGS)):
                        archive.writestr(f"{folder}/{seed:04}_{n + 1:02}.png", png(ink))
            archive.writestr(f"__MACOSX/{name}/._x.png", b"resource fork")
    with zipfile.ZipFile(directory / "all_runs.zip", "w") as archive:
        for run in range(1, RUNS + 1):
            write_run(archive, f"run{run:02}", [drawings(100 * run + n, 2) for n in range(20)])
    return directory


def write_run(archive: zipfile.ZipFile, run: str, classes) -> None:
    """Write a one-shot run, whose test image i + 1 belongs to class (7 i) mod 20 + 1."""
    lines = []
    pairs = [tuple(pair) for pair in classes]
    for n, (support, _) in enumerate(pairs):
        archive.writestr(f"{run}/training/class{n + 1:02}.png", png(support))
    for i in range(20):
        item, label = f"{run}/test/item{i + 1:02}.png", 7 * i % 20
        archive.writestr(item, png(pairs[label][1]))
        lines.append(f"{item} {run}/training/class{label + 1:02}.png\n")
    archive.writestr(f"{run}/class_labels.txt", "".join(lines))

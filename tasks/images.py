"""Images from files and arrays, as 8-bit grayscale or RGB, by the rules of Pillow."""

import contextlib
import io
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from jaxtyping import Integer, Shaped, UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from tasks.files import digest, list_files
from training.errors import UserError, first_line
from training.files import atomic_write

FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "TIFF", "WEBP")
EXTENSIONS = (".png", ".jpg", ".jpeg", ".webp", ".bmp")  # of the images in a folder
CAPTION_FIGURE = ".attention.png"  # suffix of the figure beside a captioned image or folder
BACKGROUND = "white"  # color behind transparent pixels
CHECKED_DIR = Path("~/.cache/attention_atlas/checked_images").expanduser()
_FILES_PER_TASK = 256  # files that a thread checks at a time


class DamagedImageError(UserError):
    """The content of a file is not an image that can be decoded."""


def read_image(path: Path, channels: int, content: bytes | None = None) -> Image.Image:
    """Decode an image file, or the content of a file in an archive.

    The image is rotated as its EXIF orientation says, 16-bit grayscale is scaled to 8 bits, and
    transparent pixels are drawn on `BACKGROUND`. Only the first frame of an animation is read.

    Args:
        path: file in one of `FORMATS`, whatever its suffix.
        channels: C, 1 for grayscale (mode L) or 3 for RGB.
        content: content of the file, which is read from `path` if this is None.

    Raises:
        DamagedImageError: if the content cannot be decoded, or exceeds a limit of Pillow:
            `Image.MAX_IMAGE_PIXELS`, or `MAX_TEXT_CHUNK` and `MAX_TEXT_MEMORY` of PNG files.
        UserError: if the file cannot be read, or has 32-bit pixels.
    """
    with _open(path, content) as image:
        image.load()
        with contextlib.suppress(Exception):  # damaged metadata do not make pixels unreadable
            ImageOps.exif_transpose(image, in_place=True)
        return _convert(image, channels)


def check_header(path: Path) -> None:
    """Read the header of an image file, without its pixels; raises the errors of `read_image`."""
    with _open(path):
        pass


def check_files(root: Path, paths: Sequence[Path]) -> None:
    """Read the headers of image files in parallel, to find unreadable files before training.

    Files are read once for each path, size and modification time; readable files are recorded in
    `CHECKED_DIR`, if it can be written.

    Args:
        root: directory of the dataset, which names the record.
        paths: files below it.

    Raises:
        UserError: if a file cannot be read.
    """
    record = CHECKED_DIR / f"{digest([os.fsencode(root.absolute())])}.npy"
    try:
        checked = frozenset(np.load(record).tolist())
    except (OSError, ValueError, EOFError):  # missing or damaged
        checked = frozenset()
    versions: set[int] = set()
    errors: list[tuple[Path, UserError]] = []
    chunks = [paths[n : n + _FILES_PER_TASK] for n in range(0, len(paths), _FILES_PER_TASK)]
    with ThreadPoolExecutor() as executor:
        for found, failed in executor.map(lambda chunk: _check_headers(chunk, checked), chunks):
            versions.update(found)
            errors.extend(failed)
    if len(errors) > 1:
        names = ", ".join(str(path) for path, _ in errors[:3]) + ", ..." * (len(errors) > 3)
        raise UserError(
            f"{len(errors):,} files cannot be read as images ({names}): replace or remove them."
        )
    if errors:
        raise errors[0][1]
    if not versions <= checked:
        with contextlib.suppress(OSError), atomic_write(record) as file:
            np.save(file, np.array(sorted(versions | checked), np.uint64))


def _check_headers(
    paths: Sequence[Path], checked: frozenset[int]
) -> tuple[list[int], list[tuple[Path, UserError]]]:
    """Return hashes of the versions of readable files, and the other files with their errors."""
    versions, errors = [], []
    for path in paths:
        try:
            status = path.stat()
            content = (
                os.fsencode(path.absolute()),
                b"%d" % status.st_size,
                b"%d" % status.st_mtime_ns,
            )
            version = int(digest([b"\0".join(content)])[:16], 16)
            if version not in checked:
                check_header(path)
            versions.append(version)
        except OSError as error:
            errors.append((path, _io_error(path, error)))
        except UserError as error:
            errors.append((path, error))
    return versions, errors


def image_from_array(pixels: Shaped[np.ndarray, "Y X *C"], channels: int) -> Image.Image:
    """Convert the pixels of a dataset to mode L for `channels=1`, or RGB for 3.

    Args:
        pixels: `[Y, X]`, or `[Y, X, C]` with one (grayscale), two (and alpha), three (RGB) or four
            channels (and alpha), uint8 or uint16.
        channels: channels of the result.

    Raises:
        UserError: if the pixels have another type or shape.
    """
    shapes = ((), (1,), (2,), (3,), (4,))
    if pixels.dtype not in (np.uint8, np.uint16) or pixels.shape[2:] not in shapes:
        raise UserError(
            f"Images of type {pixels.dtype} and shape {pixels.shape} are not supported: choose a "
            "dataset whose images are uint8 or uint16 with 1 to 4 channels."
        )
    pixels = pixels[..., 0] if pixels.shape[2:] == (1,) else pixels
    return _convert(Image.fromarray(_to_uint8(pixels)), channels)


def crop_and_resize(image: Image.Image, resolution: int) -> UInt8[np.ndarray, "R R C"]:
    """Crop the central square and resize it, by area averaging if it is made smaller."""
    side = min(image.size)
    left, top = ((length - side) // 2 for length in image.size)
    box = (left, top, left + side, top + side)
    filter = Image.Resampling.BOX if side >= resolution else Image.Resampling.BICUBIC
    pixels = np.asarray(image.resize((resolution, resolution), filter, box))
    return pixels.reshape(resolution, resolution, -1)


@contextlib.contextmanager
def _open(path: Path, content: bytes | None = None) -> Iterator[Image.Image]:
    """Open an image file or its content; errors of Pillow are raised as in `read_image`."""
    try:
        file = path if content is None else io.BytesIO(content)
        with Image.open(file, formats=FORMATS) as image:
            if image.mode in ("I", "F"):
                raise UserError(
                    f"{path} has 32-bit pixels, whose range is not known: convert it to 8 bits."
                )
            if not all(image.size):
                raise ValueError("it has no pixels")
            yield image
    except UserError:
        raise
    except Exception as error:  # Pillow raises errors of many types for malformed content
        if isinstance(error, OSError) and error.errno is not None:
            raise _io_error(path, error) from error
        unidentified = isinstance(error, UnidentifiedImageError)
        reason = "unknown format or damaged header" if unidentified else first_line(error)
        raise DamagedImageError(
            f"{path} is not a readable image ({reason}): replace or remove it."
        ) from error


def _io_error(path: Path, error: OSError) -> UserError:
    return UserError(f"Cannot read {path} ({error.strerror}): restore or remove it.")


def _convert(image: Image.Image, channels: int) -> Image.Image:
    """Convert any mode to L or RGB."""
    if image.mode.startswith("I;16"):
        image = _convert_16_bit(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, BACKGROUND), image)
    return image.convert("L" if channels == 1 else "RGB")


def _convert_16_bit(image: Image.Image) -> Image.Image:
    """Scale 16-bit grayscale to 8 bits, because `Image.convert` clips it at 255."""
    values = np.asarray(image)
    gray = Image.fromarray(_to_uint8(values))
    transparent = image.info.get("transparency")
    if transparent is not None:
        gray.putalpha(Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8)))
    return gray


def _to_uint8(values: Integer[np.ndarray, "*B"]) -> UInt8[np.ndarray, "*B"]:
    """Scale 0 .. 65535 to 0 .. 255, rounded; uint8 values stay as they are."""
    if values.dtype == np.uint8:
        return values
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)


def list_images(images: Path) -> list[Path]:
    """Return the path of an image, or those of the images in a directory.

    Figures that `eval.py --caption` has written for its images are left out.

    Raises:
        UserError: if the directory has no images.
    """
    if not images.is_dir():
        return [images]
    paths = [
        path
        for path in list_files(images)
        if path.suffix.lower() in EXTENSIONS and not path.name.endswith(CAPTION_FIGURE)
    ]
    if not paths:
        raise UserError(f"{images} has no images ({', '.join(EXTENSIONS)}): choose another.")
    return paths

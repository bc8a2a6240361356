"""Tests of `tasks.images`."""

import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import ExifTags, Image, PngImagePlugin

from tasks.images import (
    DamagedImageError,
    check_header,
    crop_and_resize,
    image_from_array,
    read_image,
)
from training.errors import UserError

FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "TIFF", "WEBP")


def encode(image, format="PNG", **options):
    file = io.BytesIO()
    image.save(file, format=format, **options)
    return file.getvalue()


@pytest.fixture
def write(tmp_path):
    """Write the content of a file and return its path."""

    def write(content, name="x.png"):
        path = tmp_path / name
        path.write_bytes(content)
        return path

    return write


@pytest.fixture
def read(write):
    """Pixels `[Y, X]` or `[Y, X, 3]` of a file with the given content."""
    return lambda content, channels=1: np.asarray(read_image(write(content), channels))


def noise(dtype, *shape):
    limit = np.iinfo(dtype).max
    return np.random.default_rng(0).integers(0, limit, shape, dtype, endpoint=True)


def png_chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def test_center_square_is_resized_by_area_averaging():
    pixels = np.zeros((4, 8, 3), np.uint8)
    pixels[:, 2:6] = np.arange(16).reshape(4, 4, 1) * 10  # pixels outside the square are black
    expected = pixels[:, 2:6].reshape(2, 2, 2, 2, 3).mean((1, 3))
    np.testing.assert_array_equal(crop_and_resize(Image.fromarray(pixels), 2), expected)
    assert crop_and_resize(Image.fromarray(pixels[..., 0]), 2).shape == (2, 2, 1)


# Depth.


def test_16_bit_grayscale_is_scaled_to_8_bits(read):
    """Clipping at 255 makes 96% of 16-bit noise white."""
    values = noise(np.uint16, 16, 24)
    values[0, :4] = 0, 128, 129, 65535
    expected = np.rint(values / 257).astype(np.uint8)
    assert expected[0, :4].tolist() == [0, 0, 1, 255]
    for format in ("PNG", "TIFF"):
        content = encode(Image.fromarray(values), format)
        np.testing.assert_array_equal(read(content), expected)
        np.testing.assert_array_equal(read(content, 3), np.repeat(expected[..., None], 3, -1))


@pytest.mark.parametrize("channels", [1, 3])
def test_uint16_arrays_equal_their_8_bit_versions(channels):
    pixels = noise(np.uint8, 5, 7, channels)
    wide = np.uint16(pixels) * 257
    expected = np.asarray(image_from_array(pixels, channels)).reshape(pixels.shape)
    np.testing.assert_array_equal(expected, pixels)
    result = np.asarray(image_from_array(wide, channels)).reshape(pixels.shape)
    np.testing.assert_array_equal(result, pixels)


@pytest.mark.parametrize(
    ("dtype", "shape"), [(np.float32, (4, 4, 3)), (np.int64, (4, 4)), (np.uint8, (4, 4, 5))]
)
def test_arrays_of_unknown_range_or_channels_are_rejected(dtype, shape):
    with pytest.raises(UserError, match=r"shape \(4, 4.* not supported: choose a dataset"):
        image_from_array(np.zeros(shape, dtype), 3)


@pytest.mark.parametrize("mode", ["I", "F"])
def test_32_bit_pixels_are_rejected_by_their_header(mode, write):
    path = write(encode(Image.new(mode, (4, 4)), "TIFF"))
    with pytest.raises(UserError, match=r"x\.png has 32-bit pixels.*convert it to 8 bits"):
        check_header(path)


# Orientation.


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP"])
def test_image_is_rotated_as_its_exif_orientation_says(orientation, format, read):
    """The stored rows and columns of each orientation (EXIF 2.32, table 6)."""
    upright = np.kron(np.uint8([[0, 60, 120], [150, 200, 250]]), np.ones((16, 16), np.uint8))
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.T,
        6: np.rot90(upright),
        7: upright[::-1, ::-1].T,
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    options = {"PNG": {}, "JPEG": {"quality": 100}, "WEBP": {"lossless": True}}[format]
    pixels = read(encode(Image.fromarray(stored), format, exif=exif, **options))
    np.testing.assert_allclose(np.int32(pixels), upright, atol=2)


def test_damaged_exif_is_ignored(read):
    image = Image.fromarray(noise(np.uint8, 4, 6))
    content = encode(image, exif=b"Exif\x00\x00no TIFF header")
    np.testing.assert_array_equal(read(content), np.asarray(image))


# Transparency.

HIDDEN = (200, 30, 60)  # color of transparent pixels, which no result contains


@pytest.mark.parametrize("format", ["PNG", "WEBP", "TIFF", "GIF"])
def test_transparent_pixels_are_white(format, read):
    pixels = np.zeros((4, 6, 4), np.uint8)
    pixels[..., :3] = HIDDEN
    pixels[:, 3:] = (10, 20, 30, 255)
    options = {"lossless": True, "exact": True} if format == "WEBP" else {}
    result = read(encode(Image.fromarray(pixels), format, **options), 3)
    assert (result[:, :3] == 255).all() and (result[:, 3:] == (10, 20, 30)).all()


def test_half_transparent_pixels_are_blended_with_white(read):
    result = read(encode(Image.new("LA", (2, 2), (0, 128))))
    assert (result == 127).all()


def test_transparent_values_without_alpha_channel_are_white(read):
    """PNG files may declare one gray value, color or palette entry transparent."""
    gray = np.uint8([[7, 9]])
    assert read(encode(Image.fromarray(gray), transparency=7)).tolist() == [[255, 9]]
    wide = np.uint16([[700, 25700]])
    assert read(encode(Image.fromarray(wide), transparency=700)).tolist() == [[255, 100]]
    rgb = Image.fromarray(np.uint8([[HIDDEN, (1, 2, 3)]]))
    assert read(encode(rgb, transparency=HIDDEN), 3).tolist() == [[[255] * 3, [1, 2, 3]]]
    palette = rgb.convert("P", palette=Image.Palette.ADAPTIVE)
    index = palette.getpixel((0, 0))
    alphas = bytes(0 if n == index else 255 for n in range(256))
    for transparency in (index, alphas):
        result = read(encode(palette, transparency=transparency), 3)
        assert result.tolist() == [[[255] * 3, [1, 2, 3]]]


def test_opaque_images_are_unchanged(read):
    pixels = noise(np.uint8, 5, 7, 3)
    for image in (Image.fromarray(pixels), Image.fromarray(pixels).convert("RGBA")):
        np.testing.assert_array_equal(read(encode(image), 3), pixels)


# Errors.


def test_limits_of_pillow_name_the_file(write, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 8)
    path = write(encode(Image.new("L", (5, 4))), "huge.png")
    for read in (check_header, lambda path: read_image(path, 1)):
        with pytest.raises(DamagedImageError, match=r"huge\.png is not.*exceeds limit of 16 pixe"):
            read(path)
    text = PngImagePlugin.PngInfo()
    text.add_text("comment", "x" * 2**21, zip=True)
    path = write(encode(Image.new("L", (2, 2)), pnginfo=text), "text.png")
    with pytest.raises(DamagedImageError, match=r"text\.png is not .*MAX_TEXT_CHUNK\): replace"):
        check_header(path)


def test_unreadable_files_are_named(write, tmp_path):
    content = encode(Image.fromarray(noise(np.uint8, 32, 32)))
    path = write(content[: len(content) // 2])
    check_header(path)
    with pytest.raises(DamagedImageError, match=r"x\.png is not a readable image.*truncated"):
        read_image(path, 1)
    with pytest.raises(DamagedImageError, match=r"x\.png is not a readable image \(unknown"):
        check_header(write(b"no image"))
    with pytest.raises(UserError, match=r"Cannot read \S+missing\.png \(No such file") as error:
        check_header(tmp_path / "missing.png")
    assert not isinstance(error.value, DamagedImageError)  # may be readable later


# Arbitrary input: an array or a UserError.

slow_fuzz = settings(
    max_examples=500,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
SIGNATURES = (
    b"",
    b"BM",
    b"GIF89a",
    b"II*\0",
    b"MM\0*",
    b"RIFF\0\0\0\0WEBP",
    b"\0\0\0\x0cjP  \r\n\x87\n",
    b"\0\0\0\x1cftypavif",
    b"\x89PNG\r\n\x1a\n",
    b"\xff\xd8\xff",
)
encoded_images = st.builds(
    lambda *arguments: encode_any(*arguments),
    st.sampled_from(["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "I;16", "I", "F"]),
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.integers(0, 2**16),
    st.sampled_from(FORMATS),
    st.fixed_dictionaries(
        {},
        optional={
            "transparency": st.integers(0, 300),
            "exif": st.binary(max_size=40).map(lambda x: b"Exif\x00\x00MM" + x),
            "progressive": st.just(True),
            "interlace": st.just(True),
        },
    ),
)


def encode_any(mode, size, seed, format, options):
    """Encode random pixels; returns what was written if the format has no such mode."""
    values = np.random.default_rng(seed).bytes(size[0] * size[1] * 4)
    try:
        return encode(Image.frombytes("RGBA", size, values).convert(mode), format, **options)
    except Exception:  # noqa: BLE001 - encoders raise errors of many types for invalid options
        return values


def assert_array_or_error(path, channels):
    """Read a file without warnings being errors, as in a training run."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            pixels, message = crop_and_resize(read_image(path, channels), 6), None
        except UserError as error:
            pixels, message = None, str(error)
    if pixels is None:
        assert str(path) in message and "\n" not in message
    else:
        assert pixels.shape == (6, 6, channels) and pixels.dtype == np.uint8


@pytest.mark.slow
@slow_fuzz
@given(
    st.builds(bytes.__add__, st.sampled_from(SIGNATURES), st.binary(max_size=400)),
    st.sampled_from([1, 3]),
)
@example(b"", 1)
def test_random_bytes_are_an_array_or_an_error(write, content, channels):
    assert_array_or_error(write(content), channels)


@pytest.mark.slow
@slow_fuzz
@given(encoded_images, st.sampled_from([1, 3]))
def test_any_mode_and_size_is_an_array_or_an_error(write, content, channels):
    assert_array_or_error(write(content), channels)


@pytest.mark.slow
@slow_fuzz
@given(encoded_images, st.floats(0, 1), st.sampled_from([1, 3]))
def test_truncated_files_are_an_array_or_an_error(write, content, fraction, channels):
    assert_array_or_error(write(content[: int(fraction * len(content))]), channels)


@pytest.mark.slow
@slow_fuzz
@given(
    encoded_images,
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=12),
    st.sampled_from([1, 3]),
)
def test_overwritten_bytes_are_an_array_or_an_error(write, content, changes, channels):
    content = bytearray(content)
    for fraction, value in changes:
        content[min(int(fraction * len(content)), len(content) - 1)] = value
    assert_array_or_error(write(bytes(content)), channels)


@pytest.mark.slow
@slow_fuzz
@given(
    arrays(
        st.sampled_from([np.uint8, np.uint16, np.float32, np.int64, np.bool_]),
        array_shapes(min_dims=2, max_dims=3, max_side=9),
    ),
    st.sampled_from([1, 3]),
)
def test_any_array_is_an_image_or_an_error(pixels, channels):
    try:
        result = crop_and_resize(image_from_array(pixels, channels), 6)
    except UserError:
        assert pixels.dtype not in (np.uint8, np.uint16) or pixels.shape[2:] > (4,)
        return
    assert result.shape == (6, 6, channels) and result.dtype == np.uint8

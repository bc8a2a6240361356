"""Reading of text files: compressions, blocks of lines, and positions in error messages."""

import gzip
import lzma

import numpy as np
import pytest
from backports import zstd

from tasks import text
from tasks.text import decode_lines, read_bytes, read_lines
from training.errors import UserError

COMPRESS = {".gz": gzip.compress, ".xz": lzma.compress, ".zst": zstd.compress}
CONTENT = "\ufeffgröße\u2028a\r\n\n  zwei\x85 \x1e\n\ndrei\n\n".encode()
LINES = ["größe\u2028a", "", "zwei", "", "drei", ""]


@pytest.mark.parametrize("suffix", ["", *COMPRESS])
@pytest.mark.parametrize("block", [1, 5, 2**20])
def test_lines_are_read_in_blocks(tmp_path, monkeypatch, suffix, block):
    monkeypatch.setattr(text, "_BLOCK", block)
    path = tmp_path / f"x.en{suffix}"
    for content in (CONTENT, CONTENT[:-1], CONTENT[:-3], b"\n", b"\xef\xbb\xbf", b""):
        path.write_bytes(COMPRESS.get(suffix, bytes)(content))
        assert read_bytes(path) == content
        lines = [line for lines in read_lines(path) for line in lines]
        assert lines == decode_lines(content, "x")
    assert decode_lines(CONTENT, "x") == LINES


@pytest.mark.parametrize("suffix", COMPRESS)
def test_concatenated_compressed_files_are_read_to_the_end(tmp_path, suffix):
    path = tmp_path / f"x.en{suffix}"
    path.write_bytes(COMPRESS[suffix](b"one\ntwo\n") + COMPRESS[suffix](b"three\n"))
    assert list(read_lines(path)) == [["one", "two", "three"]]


@pytest.mark.parametrize("suffix", COMPRESS)
def test_damaged_file_is_an_error_with_the_position(tmp_path, monkeypatch, suffix):
    monkeypatch.setattr(text, "_BLOCK", 2**12)
    path = tmp_path / f"x.en{suffix}"
    numbers = np.random.default_rng(0).integers(10**9, size=30_000)
    content = "".join(f"{n}\n" for n in numbers).encode()
    compressed = COMPRESS[suffix](content)
    path.write_bytes(compressed[: len(compressed) // 2])  # truncated
    with pytest.raises(UserError, match=rf"Cannot read \S+{suffix} after line \d+ \(.*restore it"):
        list(read_lines(path))
    path.write_bytes(b"not compressed")
    with pytest.raises(UserError, match=rf"Cannot read \S+x\.en{suffix} \(.*\): restore it"):
        list(read_lines(path))


def test_missing_file_is_an_error(tmp_path):
    for read in (read_bytes, lambda path: list(read_lines(path))):
        with pytest.raises(UserError, match=r"Cannot read \S+x\.en \(.*No such file"):
            read(tmp_path / "x.en")


@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("block", [1, 2**20])
def test_invalid_utf8_is_an_error_with_the_line(tmp_path, monkeypatch, bom, block):
    monkeypatch.setattr(text, "_BLOCK", block)
    (tmp_path / "x.en").write_bytes(bom + b"ab\n\n\xff\n")
    with pytest.raises(UserError, match=r"x\.en, line 3 is not UTF-8"):
        list(read_lines(tmp_path / "x.en"))
    with pytest.raises(UserError, match=r"^x, line 3 is not UTF-8"):
        decode_lines(bom + b"ab\n\n\xff\n", "x")

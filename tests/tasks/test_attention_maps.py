"""Attention maps: their files, the checks of their shapes, and the page that shows them."""

import base64
import dataclasses
import html.parser
import json
import zlib

import numpy as np
import pytest

from tasks import attention_maps, viewer
from tasks.attention_maps import KINDS, AttentionMap, Tokens
from tests.tasks.example_maps import HOSTILE, example_maps
from training.errors import UserError

WORDS = Tokens("words", ["a", "b"])


def assert_equal(a, b):
    """Compare two records field by field."""
    assert type(a) is type(b)
    for field in dataclasses.fields(a):
        x, y = getattr(a, field.name), getattr(b, field.name)
        if dataclasses.is_dataclass(x):
            assert_equal(x, y)
        elif isinstance(x, np.ndarray):
            assert x.dtype == y.dtype
            np.testing.assert_array_equal(x, y)
        else:
            assert x == y or list(x) == list(y)


def test_file_restores_maps_of_every_kind(tmp_path):
    maps = example_maps()
    assert {axis.kind for record in maps for axis in (record.queries, record.keys)} == {*KINDS}
    attention_maps.save(maps, tmp_path / "maps.npz")
    loaded = attention_maps.load(tmp_path / "maps.npz")
    for a, b in zip(maps, loaded, strict=True):
        assert_equal(a, b)


def test_optional_arrays_may_be_missing(tmp_path):
    """The names of the heads have defaults, for files that other programs write."""
    arrays = {"0/example": "x", "0/name": "y", "0/weights": np.ones((1, 1, 2, 2)) / 2}
    for axis in ("queries", "keys"):
        arrays |= {
            f"0/{axis}/kind": "tokens",
            f"0/{axis}/title": axis,
            f"0/{axis}/labels": ["a", "b"],
        }
    np.savez(tmp_path / "maps.npz", **arrays)
    (record,) = attention_maps.load(tmp_path / "maps.npz")
    assert record.heads == ("head 1",) and record.queries.labels == ["a", "b"]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (None, "Cannot read attention maps from "),
        ({"weights": np.zeros(3)}, "maps.npz has no attention maps: "),
        ({"0/weights": np.zeros(3)}, "maps.npz has no array '0/example': "),
        ({"0/weights": np.array([{}])}, "Cannot read attention maps from "),
        (
            {"0/example": "", "0/name": "", "0/weights": np.zeros(3), "0/queries/kind": "graph"},
            "'0/queries/kind' is 'graph': it must be one of tokens, points, ",
        ),
    ],
)
def test_other_files_are_rejected(arrays, message, tmp_path):
    path = tmp_path / "maps.npz"
    if arrays is None:
        path.write_text("weights")
    else:
        np.savez(path, **arrays)
    with pytest.raises(UserError, match=message):
        attention_maps.load(path)


@pytest.mark.parametrize(
    ("weights", "heads", "message"),
    [
        (
            np.ones((1, 2, 2)),
            (),
            r"weights of shape \[1, 2, 2\]: the shape must be \[layers, heads, 2",
        ),
        (np.ones((1, 1, 2, 3)), (), r"weights of shape \[1, 1, 2, 3\]"),
        (np.full((1, 1, 2, 2), 1.5), (), r"weights outside of \[0, 1\]: apply the softmax first"),
        (np.full((1, 1, 2, 2), np.nan), (), r"weights outside of \[0, 1\]"),
        (np.ones((1, 2, 2, 2)), ["read"], "has 2 heads and 1 names"),
    ],
)
def test_inconsistent_maps_are_rejected(weights, heads, message, disable_type_checks):
    with pytest.raises(UserError, match=message):
        AttentionMap("example", "name", weights, WORDS, WORDS, heads)


class Scripts(html.parser.HTMLParser):
    """Collects the contents of script elements and the other tags, as a browser parses them."""

    def __init__(self, text):
        super().__init__()
        self.scripts, self.tags, self._inside = [], [], False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self._inside = tag == "script"
        if self._inside:
            self.scripts.append("")

    def handle_data(self, data):
        if self._inside:
            self.scripts[-1] += data

    def handle_endtag(self, tag):
        self._inside = False


def test_page_contains_the_weights_and_escapes_text():
    maps = example_maps()
    parsed = Scripts(viewer.page(maps, HOSTILE[1]))
    data = json.loads(parsed.scripts[0])
    assert len(parsed.scripts) == 2 and "img" not in parsed.tags
    assert data["title"] == HOSTILE[1] and data["maps"][0]["queries"]["labels"][-4:] == [*HOSTILE]
    weights = np.frombuffer(zlib.decompress(base64.b64decode(data["weights"])), "<u2")
    for record, shown in zip(maps, data["maps"], strict=True):
        layers, heads, *sizes = record.weights.shape
        count = len(shown["heads"])
        found = weights[shown["offset"] :][: layers * count * sizes[0] * sizes[1]]
        found = found.reshape(layers, count, *sizes) / data["scale"]
        np.testing.assert_allclose(found[:, -heads:], record.weights, atol=5.1e-5)
        assert (count > heads) == (heads > 1 and shown["heads"][-1] != "write")
        if count > heads:
            assert shown["heads"][0] == "mean of heads"
            np.testing.assert_allclose(found[:, 0], record.weights.mean(1), atol=5.1e-5)


def test_command_writes_the_page_of_a_file(tmp_path, monkeypatch):
    weights = np.full((1, 1, 2, 2), 0.5)
    attention_maps.save([AttentionMap("x", "y", weights, WORDS, WORDS)], tmp_path / "other.npz")
    command = ["viewer", str(tmp_path / "other.npz"), str(tmp_path / "page.html")]
    monkeypatch.setattr("sys.argv", command)
    viewer.main()
    assert json.loads(Scripts((tmp_path / "page.html").read_text()).scripts[0])["title"] == "other"
    monkeypatch.setattr("sys.argv", [*command[:2], str(tmp_path)])
    with pytest.raises(SystemExit, match=f"error: Cannot write {tmp_path}: Is a directory."):
        viewer.main()


def test_page_without_maps_is_rejected():
    with pytest.raises(UserError, match="There are no attention maps to show"):
        viewer.page([], "")

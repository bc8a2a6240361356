"""Measurement of attention by length."""

import jax
import jax.numpy as jnp
import pytest

from benchmarks import attention_length
from training import mesh


def stub(monkeypatch, temporary_bytes):
    """Measure a small function whose compiled program reports the given temporary memory."""
    monkeypatch.setattr(attention_length, "temporary_bytes", lambda compiled: temporary_bytes)
    fn = lambda q, k, v: q * jnp.sum(k * v)
    return list(attention_length.measure_one("name", fn, (2, 4, 8)))


@pytest.fixture(autouse=True)
def _fast(monkeypatch):
    monkeypatch.setattr(attention_length, "WIDTH", 2)


def test_lengths_end_where_the_program_does_not_fit(monkeypatch):
    (row,) = stub(monkeypatch, 10 * mesh.memory_per_device())
    assert row["note"] == "not run, does not fit into memory"
    assert row["MiB"] > 2**10
    assert "ms" not in row


def test_lengths_end_where_a_round_takes_too_long(monkeypatch):
    monkeypatch.setattr(attention_length, "LIMIT", 0.0)
    first, last = stub(monkeypatch, 2**20)
    assert first["ms"] > 0.0
    assert first["MiB"] == 1.0
    assert last["length"] == 4
    assert last["note"].startswith("not run, about")


def test_figure_has_a_line_for_every_implementation():
    rows = [
        {"implementation": name, "length": length, "ms": 1.0, "MiB": 2.0}
        for name in ("xla", "blockwise")
        for length in (2, 4)
    ]
    rows.append({"implementation": "xla", "length": 8, "note": "not run"})
    figure = attention_length.draw(rows, "device")
    assert [len(axes.lines) for axes in figure.axes] == [2, 2]


@pytest.mark.slow
def test_every_implementation_is_measured():
    rows = attention_length.measure((16, 32))
    names = ["xla", "blockwise", "additive, xla", "additive, blockwise"]
    assert [(row["implementation"], row["length"]) for row in rows][:8] == [
        (name, length) for name in names for length in (16, 32)
    ]
    assert all(row["ms"] > 0 and row["MiB"] >= 0 for row in rows)
    assert jax.default_backend() != "cpu" or len(rows) == 8

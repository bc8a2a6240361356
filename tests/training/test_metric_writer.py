"""The reader of `metrics.jsonl` skips lines that are not metrics, for any content of the file."""

import json
import string

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from training import metric_writer
from training.errors import UserError
from training.metric_writer import MetricWriter

VALID = {"step": 2, "seconds": 0.5, "loss": 1, "dev/x": float("nan")}
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=4)),
    lambda values: st.one_of(
        st.lists(values, max_size=2), st.dictionaries(st.text(max_size=2), values, max_size=2)
    ),
    max_leaves=4,
)
LINES = st.one_of(
    st.binary(max_size=20),
    VALUES.map(lambda value: json.dumps(value).encode()),
    st.dictionaries(st.sampled_from(["step", "loss", "seconds", "dev/x"]), VALUES).map(
        lambda values: json.dumps(VALID | values).encode()
    ),
    st.integers(0, 20).map(lambda size: json.dumps(VALID).encode()[:size]),
    st.sampled_from(
        [b"[" * 10**4, b'{"a":' * 10**4, b'{"step": 1' + b"0" * 400 + b"}", b"\xff\xfe["]
    ),
)


@pytest.mark.parametrize("examples", [25, pytest.param(500, marks=pytest.mark.slow)])
def test_lines_are_metrics_or_skipped(examples, tmp_path):
    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(LINES, max_size=4), st.sampled_from([b"\n", b"\r\n", b""]))
    def read(lines, end):
        content = end.join([*lines, b"", json.dumps(VALID).encode()])
        (tmp_path / metric_writer.FILENAME).write_bytes(content)
        writer = MetricWriter(str(tmp_path), step=10**6, write_files=False)
        for line in writer.lines:
            assert np.isfinite(line.get("dev/x", np.nan)) in (True, False)
            assert {type(float(value)) for value in line.values()} == {float}
        writer.metrics_at(2, "dev/")
        if end:
            np.testing.assert_equal(writer.lines[-1], VALID)

    read()


@pytest.mark.parametrize(
    "change", [{"step": "2"}, {"step": True}, {"step": None}, {"loss": "x"}, {"loss": 10**400}]
)
def test_line_with_a_wrong_value_is_skipped(change, tmp_path):
    text = "".join(json.dumps(line) + "\n" for line in (VALID, VALID | change, VALID))
    (tmp_path / metric_writer.FILENAME).write_text(text)
    np.testing.assert_equal(metric_writer.read(str(tmp_path)), [VALID, VALID])


def test_file_that_cannot_be_read_is_an_error(tmp_path):
    with pytest.raises(UserError, match="Cannot read .*: File name too long"):
        metric_writer.read(str(tmp_path / (string.ascii_letters * 10)))

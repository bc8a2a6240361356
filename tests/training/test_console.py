"""Console output: closed terminals, throughput, and formats of numbers."""

import math
import os
import sys

import pytest

from training import console


def test_closed_terminal_is_not_an_error(monkeypatch):
    controller, terminal = os.openpty()
    stdout = open(terminal, "w", encoding="utf-8")  # noqa: SIM115 - closing it raises an error, see below
    os.close(controller)
    monkeypatch.setattr(sys, "stdout", stdout)
    console.Console(3, "examples").print("a line")
    with pytest.raises(OSError, match="Input/output"):
        stdout.close()


def test_throughput_excludes_pauses(monkeypatch):
    clock = iter([0.0, 10.0, 11.0, 14.0, 15.0, 17.0])
    monkeypatch.setattr(console.time, "perf_counter", lambda: next(clock))
    output = console.Console(100, "examples", quiet=True)
    with output.progress(0, 1e11):  # from 10 s on, with a peak of 1e11 FLOP/s
        with output.pause_timer("evaluating"):  # from 11 s to 14 s
            pass
        output.advance(1, 10, 5e9)
        output.advance(2, 10, 5e9)
        first = output.report(2, 0.5)  # at 15 s, after 2 s of training
        output.advance(3, 10, 5e9)
        second = output.report(3, 0.5)  # at 17 s
    assert first == {"items_per_second": 10.0, "flops_utilization": pytest.approx(0.05)}
    assert second == {"items_per_second": 5.0, "flops_utilization": pytest.approx(0.025)}


def test_format_bytes_uses_binary_units():
    sizes = (1.5 * 2**10, 1.5 * 2**20, 1.5 * 2**30)
    assert [console.format_bytes(size) for size in sizes] == ["1.5 KiB", "1.5 MiB", "1.50 GiB"]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], "–"),
        ([0.98765], "0.9877"),
        ([1.0, 2.0, 3.0], "2 ± 1"),
        ([1.0, math.nan], "nan ± nan"),
        ([1.0, math.inf], "inf ± nan"),
    ],
)
def test_mean_is_formatted_with_the_sample_deviation(values, expected):
    assert console.format_mean(values) == expected


def test_format_duration_omits_zero_hours():
    assert [console.format_duration(s) for s in (5.0, 65.0, 3665.0)] == ["0:05", "1:05", "1:01:05"]

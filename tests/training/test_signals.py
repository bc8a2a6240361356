"""Tests of deferred stop signals."""

import signal

import pytest

from training import signals
from training.signals import catch_stop_signals


def test_first_signal_is_recorded_and_duplicates_are_ignored():
    with catch_stop_signals() as caught:
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT):
            signal.raise_signal(number)
        assert caught == [signal.SIGTERM]


def test_later_signal_has_its_usual_effect(monkeypatch):
    monkeypatch.setattr(signals, "DUPLICATE_SECONDS", -1.0)
    # Set Python's handler, because shells ignore SIGINT in background processes.
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with catch_stop_signals() as caught:
            signal.raise_signal(signal.SIGINT)
            assert caught == [signal.SIGINT]
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, previous)


def test_previous_handlers_are_restored():
    previous = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with catch_stop_signals():
        assert signal.getsignal(signal.SIGTERM) != previous[0]
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == previous

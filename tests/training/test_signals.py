"""A signal to stop is noted; the same at once again is the same; one later is meant."""

import signal

import pytest

from training import signals


def test_the_first_is_noted_and_those_at_once_are_the_same():
    with signals.signals() as caught:
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT):
            signal.raise_signal(number)
        assert caught == [signal.SIGTERM]


def test_a_later_one_acts_as_usual(monkeypatch):
    monkeypatch.setattr(signals, "AT_ONCE", -1.0)
    # As usual for Python; what a shell starts in the background ignores this one.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with signals.signals() as caught:
            signal.raise_signal(signal.SIGINT)
            assert caught == [signal.SIGINT]
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


def test_handlers_are_as_they_were_afterwards():
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with signals.signals():
        assert signal.getsignal(signal.SIGTERM) != before[0]
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before

"""The command that prepares datasets."""

import sys

import pytest

from tasks import prepare


def test_missing_tensorflow_is_an_error(monkeypatch, capsys):
    monkeypatch.setattr(prepare.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(sys, "argv", ["prepare", "wmt14_translate/de-en", "--data_dir=x"])
    with pytest.raises(SystemExit, match="2"):
        prepare.main()
    error = capsys.readouterr().err
    assert error.startswith("error: Preparing a dataset needs TensorFlow")
    assert error.count("\n") == 1

"""Imports of packages with slow optional dependencies."""

import importlib
import sys

import pytest

from training.imports import hide_module


@pytest.mark.parametrize("is_imported", [False, True])
def test_module_is_hidden_inside_the_context_only(is_imported, monkeypatch):
    module = importlib.import_module("colorsys")
    if not is_imported:
        monkeypatch.delitem(sys.modules, "colorsys")
    with hide_module("colorsys"), pytest.raises(ImportError):
        importlib.import_module("colorsys")
    assert (importlib.import_module("colorsys") is module) == is_imported

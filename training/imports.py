"""Imports of packages with slow optional dependencies."""

import contextlib
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def hide_module(name: str) -> Iterator[None]:
    """Make `import name` raise ImportError, as if the module were not installed."""
    imported = {name: sys.modules[name]} if name in sys.modules else {}
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[name]
        sys.modules.update(imported)

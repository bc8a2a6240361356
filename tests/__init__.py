"""Tests of the repository; `checked` is the type checker named in pyproject.toml."""

from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))  # accepts int for float

"""Corpora by name."""

import pytest

from tasks.translation.data import corpora
from tasks.translation.data.pairs import TextPairs
from training.errors import UserError


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"corpus": "number"}, r"Unknown data\.corpus='number'.* Did you mean 'numbers'\?"),
        ({"corpus": "text_files", "dri": "x"}, r"no option data\.dri.* Did you mean 'dir'\?"),
        ({"corpus": "text_files"}, r"'text_files' needs data\.dir"),
    ],
)
def test_unknown_name_suggests_the_closest_name(arguments, message):
    with pytest.raises(UserError, match=message):
        corpora.load(source="en", target="de", **arguments)


def test_empty_split_is_an_error(monkeypatch):
    splits = {"train": TextPairs(["one"], ["eins"]), "test": TextPairs([], [])}
    monkeypatch.setitem(corpora.CORPORA, "incomplete", lambda source, target: splits)
    with pytest.raises(UserError, match=r"Split 'test' of data\.corpus 'incomplete' is empty"):
        corpora.load("incomplete", "en", "de")

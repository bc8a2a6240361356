"""The alignment error rate, by hand."""

import numpy as np
import pytest

from tasks.translation.alignments import (
    HandAlignment,
    alignment_error_rate,
    links_of,
    read_alignments,
)
from tasks.translation.data.tokenized import Sentences, TokenizedPairs
from training.errors import UserError

LENGTHS = [(3, 2), (2, 2), (1, 1)]


@pytest.fixture
def read(tmp_path):
    def read_text(text, lengths=LENGTHS, from_one=False, reverse=False):
        (file := tmp_path / "test.talp").write_text(text)
        return read_alignments(str(file), lengths, from_one=from_one, reverse=reverse)

    return read_text


def test_sure_links_are_possible_links(read):
    assert read("0-0 2p1\n1?0\n\n") == [
        HandAlignment({(0, 0)}, {(0, 0), (2, 1)}),
        HandAlignment(set(), {(1, 0)}),
        HandAlignment(set(), set()),
    ]


def test_links_from_one_and_reversed_are_the_same_links(read):
    assert read("1-1 2P3\n1p2\n\n", from_one=True, reverse=True) == read("0-0 2p1\n1p0\n\n")


@pytest.mark.parametrize(
    "text, message",
    [
        ("0-0\n", "has 1 lines for 3 sentence pairs"),
        ("0-0\n0:1\n\n", "line 2: '0:1' is not a link"),
        ("0-0\n\n1-1\n", "line 3: the link 1-1 is outside of a pair of 1 and 1 words; if"),
    ],
)
def test_faulty_file_is_an_error(read, text, message):
    with pytest.raises(UserError, match=message):
        read(text)


def test_error_rate_of_three_pairs_by_hand():
    """Och & Ney 2003, eq. 17, over the corpus: A has 2 + 1 + 1 links, S has 1 + 2 + 0."""
    alignments = [
        HandAlignment({(0, 0)}, {(0, 0), (1, 1)}),  # A & S: 1, A & P: 2
        HandAlignment({(0, 0), (1, 1)}, {(0, 0), (1, 1)}),  # 0, 0
        HandAlignment(set(), {(2, 0)}),  # 0, 1
    ]
    found = [{(0, 0), (1, 1)}, {(1, 0)}, {(2, 0)}]
    assert alignment_error_rate(found, alignments) == pytest.approx(1 - (1 + 3) / (4 + 3))


def test_perfect_alignment_has_no_error():
    """Any links between the sure and the possible ones are perfect."""
    alignments = [HandAlignment({(0, 0)}, {(0, 0), (1, 1), (2, 1)})]
    for found in ({(0, 0)}, {(0, 0), (2, 1)}, {(0, 0), (1, 1), (2, 1)}):
        assert alignment_error_rate([found], alignments) == 0.0
    assert alignment_error_rate([{(1, 0)}], alignments) == 1.0


def test_words_aligned_with_the_end_of_the_source_have_no_link():
    """Lengths include EOS."""
    source = Sentences(np.empty(0, int), np.zeros(2, int), np.array([4, 3]))
    target = Sentences(np.empty(0, int), np.zeros(2, int), np.array([3, 3]))
    positions = [np.array([2, 0, 1, 0]), np.array([2, 1, 0])]
    assert links_of(TokenizedPairs(source, target), positions) == [{(2, 0), (0, 1)}, {(1, 1)}]

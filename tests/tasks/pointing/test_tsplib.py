"""TSPLIB files."""

import numpy as np
import pytest

from tasks.pointing import tsplib
from training.errors import UserError

SQUARE = """NAME: square
TYPE: TSP
COMMENT: sides of 3.4
DIMENSION: 4
EDGE_WEIGHT_TYPE: EUC_2D
NODE_COORD_SECTION
1 2.0 1.0
 2 5.4 1e0
3 5.4 4.4
4 2 4.4
EOF
"""


def test_instance_is_parsed_and_tour_is_formatted():
    instance = tsplib.parse(SQUARE)
    assert instance.name == "square"
    assert instance.cities.tolist() == [[2, 1], [5.4, 1], [5.4, 4.4], [2, 4.4]]
    text = tsplib.format_tour(instance, np.array([0, 3, 2, 1]))
    assert text.splitlines()[-7:] == ["TOUR_SECTION", "1", "4", "3", "2", "-1", "EOF"]
    assert "TYPE : TOUR" in text and "DIMENSION : 4" in text


def test_length_is_the_sum_of_rounded_distances():
    cities = tsplib.parse(SQUARE).cities
    assert tsplib.tour_length(cities, np.array([0, 1, 2, 3])) == 12  # four times 3.4
    assert tsplib.tour_length(cities, np.array([0, 2, 1, 3])) == 16  # two times 3.4 and 4.8


def test_tour_has_the_city_numbers_of_the_file():
    instance = tsplib.parse(SQUARE.replace("3 5.4 4.4", "30 5.4 4.4").replace("ON: 4", "ON: 04"))
    text = tsplib.format_tour(instance, np.array([0, 2, 1, 3]))
    assert text.splitlines()[-6:] == ["1", "30", "2", "4", "-1", "EOF"]


def test_section_name_in_a_comment_is_ignored():
    text = SQUARE.replace("sides of 3.4", "see NODE_COORD_SECTION below")
    assert len(tsplib.parse(text).cities) == 4


def test_normalize_preserves_the_aspect_ratio():
    cities = np.array([[10.0, 100.0], [30.0, 110.0], [20.0, 105.0]])
    np.testing.assert_allclose(tsplib.normalize(cities), [[0, 0], [1, 0.5], [0.5, 0.25]])
    assert not tsplib.normalize(np.ones((3, 2))).any()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("NODE_COORD_SECTION", "EDGE_WEIGHT_SECTION", "has no NODE_COORD_SECTION"),
        ("EUC_2D", "GEO", "EDGE_WEIGHT_TYPE of the instance is 'GEO': only EUC_2D is supported"),
        ("TYPE: TSP", "TYPE: CVRP", "TYPE of the instance is 'CVRP': only TSP is supported"),
        ("DIMENSION: 4", "DIMENSION: 5", "DIMENSION of the instance is 5, but 4 cities are listed"),
        ("4 2 4.4", "4 2", "Invalid city '4 2'"),
        ("4 2 4.4", "4 2 north", "Invalid city '4 2 north'"),
        ("4 2 4.4", "4 2 nan", "Invalid city '4 2 nan'"),
        ("4 2 4.4", "4 2 1e308", "Invalid city '4 2 1e308'"),
        ("4 2 4.4", "1 2 4.4", "Two cities of the instance have the same number"),
    ],
)
def test_invalid_files_are_rejected(old, new, message):
    with pytest.raises(UserError, match=message):
        tsplib.parse(SQUARE.replace(old, new))

"""Files of TSPLIB, and what is wrong with others."""

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


def test_an_instance_and_its_tour():
    instance = tsplib.read(SQUARE)
    assert instance.name == "square"
    assert instance.cities.tolist() == [[2, 1], [5.4, 1], [5.4, 4.4], [2, 4.4]]
    assert tsplib.length(instance.cities, np.array([0, 1, 2, 3])) == 12  # four of 3, from 3.4
    assert tsplib.length(instance.cities, np.array([0, 2, 1, 3])) == 16  # two of 3, two of 5
    text = tsplib.tour(instance, np.array([0, 3, 2, 1]))
    assert text.splitlines()[-7:] == ["TOUR_SECTION", "1", "4", "3", "2", "-1", "EOF"]
    assert "TYPE : TOUR" in text and "DIMENSION : 4" in text


def test_a_tour_calls_cities_as_the_file_does():
    instance = tsplib.read(SQUARE.replace("3 5.4 4.4", "30 5.4 4.4").replace("ON: 4", "ON: 04"))
    text = tsplib.tour(instance, np.array([0, 2, 1, 3]))
    assert text.splitlines()[-6:] == ["1", "30", "2", "4", "-1", "EOF"]


def test_a_comment_is_no_section():
    text = SQUARE.replace("sides of 3.4", "see NODE_COORD_SECTION below")
    assert len(tsplib.read(text).cities) == 4


def test_normalised_cities_keep_their_shape():
    cities = np.array([[10.0, 100.0], [30.0, 110.0], [20.0, 105.0]])
    np.testing.assert_allclose(tsplib.normalised(cities), [[0, 0], [1, 0.5], [0.5, 0.25]])
    assert not tsplib.normalised(np.ones((3, 2))).any()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("NODE_COORD_SECTION", "EDGE_WEIGHT_SECTION", "no NODE_COORD_SECTION"),
        ("EUC_2D", "GEO", "EDGE_WEIGHT_TYPE is 'GEO', and only EUC_2D is known here."),
        ("TYPE: TSP", "TYPE: CVRP", "TYPE is 'CVRP', and only TSP is known here."),
        ("DIMENSION: 4", "DIMENSION: 5", "says that it has 5 cities, but 4 are listed"),
        ("4 2 4.4", "4 2", "'4 2' is no city"),
        ("4 2 4.4", "4 2 north", "'4 2 north' is no city"),
        ("4 2 4.4", "4 2 nan", "'4 2 nan' is no city"),
        ("4 2 4.4", "4 2 1e308", "'4 2 1e308' is no city"),
        ("4 2 4.4", "1 2 4.4", "Two cities of the instance have the same number."),
    ],
)
def test_what_is_no_instance_is_a_sentence(old, new, said):
    with pytest.raises(UserError, match=said):
        tsplib.read(SQUARE.replace(old, new))

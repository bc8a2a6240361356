"""TSPLIB files."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

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
# Instances of TSPLIB with an optimal tour and its published length.
PUBLISHED = {
    "burma14": (
        "GEO",
        "16.47 96.10, 16.47 94.44, 20.09 92.54, 22.39 93.37, 25.23 97.24, 22.00 96.05, 20.47 97.02,"
        "17.20 96.29, 16.30 97.38, 14.05 98.12, 16.53 97.38, 21.52 95.59, 19.41 97.13, 20.09 94.55",
        "1 2 14 3 4 5 6 12 7 13 8 11 9 10",
        3323,
    ),
    "ulysses16": (
        "GEO",
        "38.24 20.42, 39.57 26.15, 40.56 25.32, 36.26 23.12, 33.48 10.54, 37.56 12.19, 38.42 13.11,"
        "37.52 20.44, 41.23 9.10, 41.17 13.05, 36.08 -5.21, 38.47 15.13, 38.15 15.35, 37.51 15.17,"
        "35.49 14.32, 39.36 19.56",
        "1 14 13 12 7 6 15 5 11 9 10 16 3 2 4 8",
        6859,
    ),
    "att48": (
        "ATT",
        "6823 4674, 7692 2247, 9135 6748, 7721 3451, 8304 8580, 7501 5899, 4687 1373, 5429 1408,"
        "7877 1716, 7260 2083, 7096 7869, 6539 3513, 6272 2992, 6471 4275, 7110 4369, 6462 2634,"
        "8476 2874, 3961 1370, 5555 1519, 4422 1249, 5584 3081, 5776 4498, 8035 2880, 6963 3782,"
        "6336 7348, 8139 8306, 4326 1426, 5164 1440, 8389 5804, 4639 1629, 6344 1436, 5840 5736,"
        "5972 2555, 7947 4373, 6929 8958, 5366 1733, 4550 1219, 6901 1589, 6316 5497, 7010 2710,"
        "9005 3996, 7576 7065, 4246 1701, 5906 1472, 6469 8971, 6152 2174, 5887 3796, 7203 5958",
        "1 14 12 13 16 40 10 2 9 38 31 44 19 8 28 7 37 20 27 18 43 30 36 46 33 21 47 22 32 39 48 6"
        " 42 25 11 45 35 5 26 3 29 34 41 17 23 4 24 15",
        10628,
    ),
}


def parse(text):
    return tsplib.parse(text.encode())


def test_instance_is_parsed_and_tour_is_formatted():
    instance = parse(SQUARE)
    assert (instance.name, instance.weight_type) == ("square", "EUC_2D")
    assert instance.cities.tolist() == [[2, 1], [5.4, 1], [5.4, 4.4], [2, 4.4]]
    text = tsplib.format_tour(instance, np.array([0, 3, 2, 1]))
    assert text.splitlines()[-7:] == ["TOUR_SECTION", "1", "4", "3", "2", "-1", "EOF"]
    assert "TYPE : TOUR" in text and "DIMENSION : 4" in text


@pytest.mark.parametrize(
    ("weight_type", "sides", "crossed"),
    [
        # Sides of 3.4, and a tour of two sides and two diagonals of 4.8.
        ("EUC_2D", 4 * 3, 2 * 3 + 2 * 5),
        ("CEIL_2D", 4 * 4, 2 * 4 + 2 * 5),
        ("MAN_2D", 4 * 3, 2 * 3 + 2 * 7),
        ("MAX_2D", 4 * 3, 4 * 3),
        ("ATT", 4 * 2, 4 * 2),  # 3.4 and 4.8, divided by the square root of 10, rounded up
    ],
)
def test_length_is_the_sum_of_integer_distances(weight_type, sides, crossed):
    instance = parse(SQUARE.replace("EUC_2D", weight_type))
    assert tsplib.tour_length(instance, np.array([0, 1, 2, 3])) == sides
    assert tsplib.tour_length(instance, np.array([0, 2, 1, 3])) == crossed


@pytest.mark.parametrize("name", PUBLISHED)
def test_optimal_tours_have_published_lengths(name):
    weight_type, cities, tour, length = PUBLISHED[name]
    lines = [f"{number} {city}" for number, city in enumerate(cities.split(","), start=1)]
    head = ["TYPE: TSP", f"DIMENSION: {len(lines)}", f"EDGE_WEIGHT_TYPE: {weight_type}"]
    instance = parse("\n".join([*head, "NODE_COORD_SECTION", *lines, "EOF"]))
    order = np.array(tour.split(), int) - 1
    assert sorted(order) == [*range(len(lines))]
    assert tsplib.tour_length(instance, order) == length


def test_tour_has_the_city_numbers_of_the_file():
    instance = parse(SQUARE.replace("3 5.4 4.4", "30 5.4 4.4").replace("ON: 4", "ON: 04"))
    text = tsplib.format_tour(instance, np.array([0, 2, 1, 3]))
    assert text.splitlines()[-6:] == ["1", "30", "2", "4", "-1", "EOF"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("TYPE: TSP\n", "TYPE: TSP (M.~Hofmeister)\n"),
        ("EUC_2D\n", "EUC_2D (rounded)\n"),
        ("EOF\n", "EOF :\n"),
        ("EOF\n", "-1\nEOF\n"),
        ("EOF\n", ""),
        ("EOF\n", "DISPLAY_DATA_SECTION\n1 0 0\n2 0 0\n3 0 0\n4 0 0\nEOF\n"),
        ("EOF\n", "tour_section :\n1 2\n3 4\n-1\n-1\nEOF\n"),
        ("EOF\n", "DISPLAY_DATA_TYPE: COORD_DISPLAY\nEOF\n5 and any text\n"),
        (SQUARE[12:], SQUARE[12:].lower()),
        (":", ""),
        (":", " ="),
        ("SECTION", "SECTION:"),
        ("3 5.4", "\n\t3\t5.4"),
        ("sides of 3.4", "see NODE_COORD_SECTION below: EOF"),
        ("\n", "\r"),
        ("\n", "\r\n"),
    ],
)
def test_deviations_of_files_in_use_are_accepted(old, new):
    """The result equals that of the original file."""
    assert old in SQUARE
    instance, expected = parse(SQUARE.replace(old, new)), parse(SQUARE)
    np.testing.assert_array_equal(instance.cities, expected.cities)
    assert instance._replace(cities=expected.cities) == expected


def test_text_is_decoded_from_utf8_or_latin1():
    text = SQUARE.replace("square", "Städte\x1b").replace("sides", "Maße")
    for content in (text.encode(), text.encode("utf-8-sig"), text.encode("latin-1")):
        instance = tsplib.parse(content)
        assert instance.name == "Städte" and len(instance.cities) == 4


def test_points_in_the_unit_square_preserve_the_aspect_ratio():
    cities = np.array([[10.0, 100.0], [30.0, 110.0], [20.0, 105.0]])
    instance = tsplib.Instance("", "MAN_2D", [1, 2, 3], cities)
    points = tsplib.unit_square_points(instance)
    np.testing.assert_allclose(points, [[0, 0], [1, 0.5], [0.5, 0.25]])
    assert not tsplib.unit_square_points(instance._replace(cities=np.ones((3, 2)))).any()


def test_geographical_points_are_proportional_to_distances():
    """Coordinates are degrees and minutes; one minute of latitude is 1.9 km."""
    cities = np.array([[60.59, 5.0], [61.0, 5.0], [61.0, 6.0], [60.59, 6.0]])
    instance = tsplib.Instance("", "GEO", [1, 2, 3, 4], cities)
    points = tsplib.unit_square_points(instance)
    width, height = points.max(0)
    expected = np.cos(np.deg2rad(60 + 59.5 / 60)) * 60  # one degree of longitude, one minute
    np.testing.assert_allclose(width / height, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("NODE_COORD_SECTION", "EDGE_WEIGHT_SECTION", "has no NODE_COORD_SECTION: pass a .tsp"),
        ("TYPE: TSP", "TYPE: CVRP", "TYPE of the instance is 'CVRP': only TSP is supported; pass"),
        ("EUC_2D", "EXPLICIT", "is 'EXPLICIT', which has distances but no coordinates .*: pass"),
        ("EUC_2D", "EUC_3D", "is 'EUC_3D', which has three coordinates per city, .*: pass"),
        ("EUC_2D", "XRAY1", "is 'XRAY1', which has three coordinates per city, .*: pass"),
        ("EUC_2D", "SPECIAL", "is 'SPECIAL', which is not supported: pass an instance with one of"),
        ("EOF", "FIXED_EDGES_SECTION\n1 2\n-1\nEOF", "has the section FIXED_EDGES_SECTION, .*: re"),
        ("EOF", "edge_data_section\n1 2\n-1\nEOF", "has the section EDGE_DATA_SECTION, .*: remove"),
        ("DIMENSION: 4", "DIMENSION: 5", "is 5, but 4 cities are listed: restore the missing line"),
        ("DIMENSION: 4\n", "", "DIMENSION of the instance is missing, but .* set DIMENSION to 4"),
        ("4 2 4.4", "4 2", "Invalid city '4 2' in line 10 of the instance: write the number of"),
        ("4 2 4.4", "4 2 north", "Invalid city '4 2 north'"),
        ("4 2 4.4", "north 2 4", "Invalid city 'north 2 4'"),
        ("4 2 4.4", "4 2 4.4 1", "Invalid city '4 2 4.4 1'"),
        ("4 2 4.4", "4 2 nan", "Invalid city '4 2 nan'"),
        ("4 2 4.4", "4 2 1e308", "Invalid city '4 2 1e308'"),
        ("4 2 4.4", "4 2 4_4", "Invalid city '4 2 4_4'"),
        ("4 2 4.4", "-1 2 4.4", "Invalid city '-1 2 4.4'"),  # would end the list of a tour
        ("4 2 4.4", "1 2 4.4", "have the same number, 1: give every city its own number"),
    ],
)
def test_invalid_files_are_rejected(old, new, message):
    with pytest.raises(UserError, match=message):
        parse(SQUARE.replace(old, new))


def test_display_coordinates_are_not_used_for_explicit_distances():
    text = SQUARE.replace("EUC_2D", "EXPLICIT").replace("NODE_COORD", "DISPLAY_DATA")
    with pytest.raises(UserError, match="no coordinates"):
        parse(text.replace("EOF", "EDGE_WEIGHT_SECTION\n1 2 3\n4 5\n6\nEOF"))


# Lines that are valid in some place, and the characters between and within them.
KEYS = [*sorted(tsplib.KEYWORDS), *sorted(tsplib.IGNORED_SECTIONS), tsplib.CITIES, "EOF", "-1"]
VALUES = ["", "TSP", "ATSP", "4", "04", *tsplib.DISTANCES, "EXPLICIT", "EUC_3D", "(a: b)"]
numbers = st.one_of(st.integers().map(str), st.floats().map(str), st.text(max_size=3))
lines = st.one_of(
    st.sampled_from(SQUARE.splitlines()),
    st.lists(numbers, min_size=1, max_size=4).map(" ".join),
    st.tuples(
        st.sampled_from(KEYS), st.sampled_from([":", " : ", " ", "="]), st.sampled_from(VALUES)
    ).map("".join),
    st.text(max_size=20),
)
inserted_lines = st.lists(st.tuples(st.integers(0, len(SQUARE.splitlines())), lines), max_size=4)


@st.composite
def edited_files(draw):
    """Bytes of a valid file after edits of lines, of line ends and of the encoding."""
    weight_type = draw(st.sampled_from([*tsplib.DISTANCES]))
    content = SQUARE.replace("EUC_2D", weight_type).splitlines()
    for position, line in draw(inserted_lines):
        content[position : position + draw(st.integers(0, 1))] = [line]
    end = draw(st.sampled_from(["\n", "\r", "\r\n"]))
    encoding = draw(st.sampled_from(["utf-8", "utf-8-sig", "latin-1", "utf-16"]))
    return end.join(content).encode(encoding, "replace")


@pytest.mark.slow
@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(content=st.one_of(edited_files(), st.binary(max_size=200)))
def test_any_content_is_an_instance_or_a_user_error(content):
    try:
        instance = tsplib.parse(content)
    except UserError:
        return
    order = np.arange(len(instance.cities))
    points = tsplib.unit_square_points(instance)
    assert points.min() >= 0 and points.max() <= 1
    assert tsplib.tour_length(instance, order) >= 0
    tour = tsplib.format_tour(instance, order).encode().decode().split("TOUR_SECTION\n")[1].split()
    assert [int(city) for city in tour[:-2]] == instance.node_ids

"""Parsing and formatting of TSPLIB files: instances with coordinates in the plane, and tours.

Source: Reinelt 1991, "TSPLIB - A Traveling Salesman Problem Library"; the formulas of the distances
are those of the TSPLIB 95 documentation, with the conversion of GEO coordinates from its FAQ. The
parser accepts the deviations that files in use have: comments after values, keywords in lower case
or without a colon, `-1` or `EOF :` as the last line, any line ends, and text in Latin-1.
"""

import re
from collections import Counter
from collections.abc import Callable
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from training.errors import UserError

MAX_COORDINATE = 1e12  # so that rounded distances are exact integers in float64
PI, EARTH_RADIUS = 3.141592, 6378.388  # as TSPLIB defines them; the radius is in kilometers

# Keywords that may follow a section; other words within a section are invalid.
KEYWORDS = {
    *("NAME", "TYPE", "COMMENT", "DIMENSION", "CAPACITY", "EDGE_WEIGHT_TYPE", "EDGE_WEIGHT_FORMAT"),
    *("EDGE_DATA_FORMAT", "NODE_COORD_TYPE", "DISPLAY_DATA_TYPE"),
}
# Other sections change the distances or constrain the tour.
CITIES, IGNORED_SECTIONS = "NODE_COORD_SECTION", {"DISPLAY_DATA_SECTION", "TOUR_SECTION"}

Cities = Float[np.ndarray, "N 2"]
Distances = Float[np.ndarray, " N"]


class Instance(NamedTuple):
    """Contents of a `.tsp` file."""

    name: str
    weight_type: str  # a key of DISTANCES
    node_ids: list[int]  # city numbers in the file; the first may be any number
    cities: Cities


def parse(content: bytes) -> Instance:
    """Parse a symmetric instance whose distances are computed from two coordinates per city.

    Raises:
        UserError: for any other type of instance, sections that constrain the tour, or invalid
            lines.
    """
    fields, sections = _split_sections(_decode(content))
    if (kind := _first_word(fields, "TYPE")) != "TSP":
        raise UserError(
            f"TYPE of the instance is '{kind}': only TSP is supported; pass a file with TYPE: TSP."
        )
    _check_weight_type(weight_type := _first_word(fields, "EDGE_WEIGHT_TYPE"))
    if CITIES not in sections:
        raise UserError("The instance has no NODE_COORD_SECTION: pass a .tsp file of TSPLIB.")
    for section in sorted(sections.keys() - {CITIES} - IGNORED_SECTIONS):
        raise UserError(
            f"The instance has the section {section}, which the model cannot take into account: "
            "remove the section to solve the instance without it."
        )
    nodes = [_parse_node(number, line) for number, line in sections[CITIES]]
    dimension = _first_word(fields, "DIMENSION")
    if dimension.lstrip("0") != str(len(nodes)):
        raise UserError(
            f"DIMENSION of the instance is {dimension or 'missing'}, but {len(nodes)} cities are "
            f"listed: restore the missing lines, or set DIMENSION to {len(nodes)}."
        )
    node_ids = [node_id for node_id, _, _ in nodes]
    for node_id, count in Counter(node_ids).items():
        if count > 1:
            raise UserError(
                f"Two cities of the instance have the same number, {node_id}: give every city its "
                "own number."
            )
    name = "".join(filter(str.isprintable, fields.get("NAME", ""))) or "unnamed"
    cities = np.array([coordinates for _, *coordinates in nodes])
    return Instance(name, weight_type, node_ids, cities)


def _decode(content: bytes) -> str:
    """Decode UTF-8, or Latin-1 as in older files; only names and comments are not in ASCII."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def _split_sections(text: str) -> tuple[dict[str, str], dict[str, list[tuple[int, str]]]]:
    """Return the values of all keywords, and the numbered lines of each section."""
    fields: dict[str, str] = {}
    sections: dict[str, list[tuple[int, str]]] = {}
    lines: list[tuple[int, str]] | None = None  # of the current section
    for number, line in enumerate(re.split(r"\r\n|\r|\n", text), start=1):
        word, *value = re.split(r"[\s:=]+", line.strip(), maxsplit=1)
        key = word.upper()
        if key == "EOF":
            break
        if re.fullmatch(r"\w+_SECTION", key):
            lines = sections.setdefault(key, [])
        elif lines is None or key in KEYWORDS:
            fields[key] = "".join(value)
        elif line.strip() not in ("", "-1"):  # -1 marks the end of some sections
            lines.append((number, line.strip()))
    return fields, sections


def _first_word(fields: dict[str, str], key: str) -> str:
    """Return a value in upper case without the comment that may follow it."""
    return re.split(r"\W", fields.get(key, ""), maxsplit=1)[0].upper()


def _check_weight_type(weight_type: str) -> None:
    if weight_type in DISTANCES:
        return
    reason = "which is not supported"
    if weight_type == "EXPLICIT":  # the display coordinates of some instances are not the distances
        reason = "which has distances but no coordinates for the model to read"
    elif weight_type.endswith("_3D") or weight_type.startswith("XRAY"):
        reason = "which has three coordinates per city, while the model reads two"
    raise UserError(
        f"EDGE_WEIGHT_TYPE of the instance is '{weight_type}', {reason}: pass an instance with one "
        f"of {', '.join(DISTANCES)}."
    )


def _parse_node(number: int, line: str) -> tuple[int, float, float]:
    """Parse `city x y` in a line with the given number."""
    try:
        node_id, x, y = line.split()
        node = int(node_id), float(x), float(y)
    except ValueError:
        node = (-1, np.nan, np.nan)
    # -1 ends the list of a tour. Python reads '1_0' as 10.
    valid = node[0] >= 0 and "_" not in line
    if not (valid and all(abs(coordinate) < MAX_COORDINATE for coordinate in node[1:])):
        raise UserError(
            f"Invalid city {line[:60]!r} in line {number} of the instance: write the number of the "
            f"city and two coordinates below {MAX_COORDINATE:g}."
        )
    return node


def _geo_radians(cities: Cities) -> Cities:
    """Convert latitudes and longitudes from DDD.MM (degrees and minutes) to radians."""
    degrees = np.trunc(cities)
    return PI * (degrees + 5 * (cities - degrees) / 3) / 180


def _geo_distances(a: Cities, b: Cities) -> Distances:
    (latitude_a, longitude_a), (latitude_b, longitude_b) = _geo_radians(a).T, _geo_radians(b).T
    q1 = np.cos(longitude_a - longitude_b)
    q2 = np.cos(latitude_a - latitude_b)
    q3 = np.cos(latitude_a + latitude_b)
    cosine = ((1 + q1) * q2 - (1 - q1) * q3) / 2
    return np.floor(EARTH_RADIUS * np.arccos(np.clip(cosine, -1, 1)) + 1)


def _round(x: Distances) -> Distances:
    return np.floor(x + 0.5)  # np.round rounds 0.5 to 0


# Distances of pairs of cities, by EDGE_WEIGHT_TYPE. TSPLIB rounds ATT to the nearest integer and
# adds 1 if the result is too small, which is the same as rounding up.
DISTANCES: MappingProxyType[str, Callable[[Cities, Cities], Distances]] = MappingProxyType(
    {
        "EUC_2D": lambda a, b: _round(np.linalg.norm(a - b, axis=-1)),
        "CEIL_2D": lambda a, b: np.ceil(np.linalg.norm(a - b, axis=-1)),
        "MAN_2D": lambda a, b: _round(np.abs(a - b).sum(-1)),
        "MAX_2D": lambda a, b: _round(np.abs(a - b).max(-1)),
        "ATT": lambda a, b: np.ceil(np.sqrt(np.square(a - b).sum(-1) / 10)),
        "GEO": _geo_distances,
    }
)


def unit_square_points(instance: Instance) -> Float[np.ndarray, "N 2"]:
    """Map the cities into the unit square by translation and scaling with one factor.

    GEO coordinates are first projected to the plane (equirectangular projection at the mean
    latitude), so that distances in the plane are nearly proportional to those on the earth.
    """
    points = instance.cities
    if instance.weight_type == "GEO":
        latitude, longitude = _geo_radians(points).T
        points = np.stack([longitude * np.cos(latitude.mean()), latitude], axis=-1)
    points = points - points.min(0)
    return (points / (points.max() or 1.0)).astype(np.float32)


def tour_length(instance: Instance, order: Int[np.ndarray, " N"]) -> int:
    """Compute the length of a closed tour as TSPLIB defines it: a sum of integer distances."""
    path = instance.cities[order]
    distances = DISTANCES[instance.weight_type](path, np.roll(path, -1, axis=0))
    return int(distances.astype(np.int64).sum())


def format_tour(instance: Instance, order: Int[np.ndarray, " N"]) -> str:
    """Format the content of a `.tour` file."""
    head = (
        f"NAME : {instance.name}.tour",
        f"COMMENT : length {tour_length(instance, order)}",
        "TYPE : TOUR",
        f"DIMENSION : {len(order)}",
        "TOUR_SECTION",
    )
    return "\n".join([*head, *(str(instance.node_ids[city]) for city in order), "-1", "EOF", ""])

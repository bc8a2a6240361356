"""Parsing and formatting of TSPLIB files (Reinelt 1991): instances in the plane, and tours."""

import itertools
import re
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from training.errors import UserError

MAX_COORDINATE = 1e12  # so that rounded distances are exact integers in float64


class Instance(NamedTuple):
    """Contents of a `.tsp` file."""

    name: str
    node_ids: list[int]  # city numbers in the file; the first may be any number
    cities: Float[np.ndarray, "N 2"]


def parse(text: str) -> Instance:
    """Parse a symmetric instance with Euclidean distances (EUC_2D).

    Raises:
        UserError: for any other type of instance, or invalid lines.
    """
    head, *rest = re.split(r"^\s*NODE_COORD_SECTION\b.*$", text, maxsplit=1, flags=re.MULTILINE)
    if not rest:
        raise UserError("The instance has no NODE_COORD_SECTION: pass a .tsp file of TSPLIB.")
    fields = {}
    for line in head.splitlines():
        key, _, value = line.partition(":")
        fields[key.strip().upper()] = value.strip()
    for field, supported in (("TYPE", "TSP"), ("EDGE_WEIGHT_TYPE", "EUC_2D")):
        if (value := fields.get(field, "")) != supported:
            raise UserError(f"{field} of the instance is '{value}': only {supported} is supported.")
    lines = itertools.takewhile(lambda line: line.strip() != "EOF", rest[0].splitlines())
    nodes = [_parse_node(line) for line in lines if line.strip()]
    if fields.get("DIMENSION", "").lstrip("0") != str(len(nodes)):
        raise UserError(
            f"DIMENSION of the instance is {fields.get('DIMENSION')}, but {len(nodes)} cities are "
            "listed."
        )
    node_ids = [node_id for node_id, _, _ in nodes]
    if len(set(node_ids)) < len(node_ids):
        raise UserError("Two cities of the instance have the same number.")
    cities = np.array([coordinates for _, *coordinates in nodes])
    return Instance(fields.get("NAME", "unnamed"), node_ids, cities)


def _parse_node(line: str) -> tuple[int, float, float]:
    """Parse `number x y`."""
    try:
        node_id, x, y = line.split()
        node = int(node_id), float(x), float(y)
    except ValueError:
        node = (0, np.nan, np.nan)
    if not all(abs(coordinate) < MAX_COORDINATE for coordinate in node[1:]):
        raise UserError(f"Invalid city '{line.strip()}': expected a number and two coordinates.")
    return node


def normalize(cities: Float[np.ndarray, "N 2"]) -> Float[np.ndarray, "N 2"]:
    """Translate and scale the cities into the unit square, preserving the aspect ratio."""
    low = cities.min(0)
    extent = float((cities - low).max())
    return ((cities - low) / (extent or 1.0)).astype(np.float32)


def tour_length(cities: Float[np.ndarray, "N 2"], order: Int[np.ndarray, " N"]) -> int:
    """Compute the length of a closed tour as TSPLIB defines it: every distance is rounded."""
    path = cities[order]
    distances = np.linalg.norm(path - np.roll(path, -1, axis=0), axis=-1)
    return int(np.floor(distances + 0.5).sum())


def format_tour(instance: Instance, order: Int[np.ndarray, " N"]) -> str:
    """Format the content of a `.tour` file."""
    head = (
        f"NAME : {instance.name}.tour",
        f"COMMENT : length {tour_length(instance.cities, order)}",
        "TYPE : TOUR",
        f"DIMENSION : {len(order)}",
        "TOUR_SECTION",
    )
    return "\n".join([*head, *(str(instance.node_ids[city]) for city in order), "-1", "EOF", ""])

"""Vinyals et al. 2015, "Pointer Networks"."""


def _hull(n: int, accuracy: float, area: float | None = None) -> dict[str, float]:
    """Accuracy and area; the latter is "FAIL" for models with too many polygons not simple."""
    values = {f"test/accuracy_n{n}": accuracy}
    return values if area is None else values | {f"test/area_n{n}": area}


_LENGTHS = {5: 2.12, 10: 2.87, 20: 3.88, 25: 4.30, 30: 4.72, 40: 5.91, 50: 7.66}
ROWS = {
    "table 1": {
        "LSTM, n = 50": _hull(50, 0.019),
        "LSTM with attention, n = 50": _hull(50, 0.389, 0.997),
        "Ptr-Net trained on 50, n = 50": _hull(50, 0.726, 0.999),
        "LSTM, n = 5": _hull(5, 0.877, 0.996),
        "Ptr-Net trained on 5-50, n = 5": _hull(5, 0.920, 0.996),
        "LSTM, n = 10": _hull(10, 0.299),
        "Ptr-Net trained on 5-50, n = 10": _hull(10, 0.870, 0.998),
        "Ptr-Net trained on 5-50, n = 50": _hull(50, 0.696, 0.999),
        "Ptr-Net trained on 5-50, n = 100": _hull(100, 0.503, 0.999),
        "Ptr-Net trained on 5-50, n = 200": _hull(200, 0.221, 0.999),
        "Ptr-Net trained on 5-50, n = 500": _hull(500, 0.013, 0.992),
    },
    "section 4.3": {
        "Delaunay, n = 5": {"test/accuracy_n5": 0.807, "test/coverage_n5": 0.930},
        "Delaunay, n = 10": {"test/accuracy_n10": 0.226, "test/coverage_n10": 0.813},
        "Delaunay, n = 50": {"test/accuracy_n50": 0.0, "test/coverage_n50": 0.528},
    },
    "table 2": {
        "n = 5": {"test/length_n5": 2.12},
        "n = 10": {"test/length_n10": 2.88},
        "n = 50, labels by A1": {"test/length_n50": 6.42},
        "n = 50, labels by A3": {"test/length_n50": 6.09},
    }
    | {
        f"trained on 5-20, n = {n}": {f"test/length_n{n}": length} for n, length in _LENGTHS.items()
    },
}

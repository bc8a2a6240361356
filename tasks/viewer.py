"""Interactive page of attention maps: one HTML file that needs no server and no network.

    python -m tasks.viewer maps.npz page.html

`maps.npz` is a file of `tasks.attention_maps.save` or of `eval.py --save_attention`.
"""

import argparse
import base64
import dataclasses
import io
import json
import math
import sys
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tasks import attention_maps
from tasks.attention_maps import AttentionMap, Axis, default_heads
from training.errors import UserError
from training.files import atomic_write

TEMPLATE = Path(__file__).with_name("viewer.html")
PLACEHOLDER = "@DATA@"
SCALE = 10_000  # weights are shown with four decimals


def page(maps: Sequence[AttentionMap], title: str) -> str:
    """Return the HTML page that shows attention maps.

    Args:
        maps: maps of one or more examples; maps of an example are shown together.
        title: title of the page.

    Raises:
        UserError: if there are no maps.
    """
    if not maps:
        raise UserError("There are no attention maps to show: pass at least one.")
    weights = [_with_mean(record) for record in maps]
    integers = np.concatenate([np.rint(x * SCALE).astype("<u2").ravel() for x in weights])
    offsets = np.cumsum([0, *(x.size for x in weights)])
    data = {
        "title": title,
        "scale": SCALE,
        "maps": [_describe(*item) for item in zip(maps, weights, offsets, strict=False)],
        "weights": base64.b64encode(zlib.compress(integers.tobytes(), 9)).decode(),
    }
    # Without '<', the text contains neither '</script>' nor '<!--'.
    text = json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    return TEMPLATE.read_text(encoding="utf-8").replace(PLACEHOLDER, text, 1)


def write_page(maps: Sequence[AttentionMap], path: Path | str, title: str) -> None:
    """Write the page to a file; see `page`."""
    content = page(maps, title).encode()
    with atomic_write(Path(path)) as file:
        file.write(content)


def _with_mean(record):
    """Return the weights `[L, H', T, S]`, with the mean first of several heads without roles."""
    weights = record.weights
    if len(record.heads) == 1 or record.heads != default_heads(len(record.heads)):
        return weights
    return np.concatenate([weights.mean(axis=1, keepdims=True), weights], axis=1)


def _describe(record, weights, offset):
    several = weights.shape[1] > len(record.heads)
    return {
        "example": record.example,
        "name": record.name,
        "heads": [*(["mean of heads"] if several else []), *record.heads],
        "layers": len(weights),
        "offset": int(offset),
        "queries": _encode_axis(record.queries),
        "keys": _encode_axis(record.keys),
    }


def _encode_axis(axis: Axis) -> dict[str, Any]:
    fields = {x.name: _encode_value(getattr(axis, x.name)) for x in dataclasses.fields(axis)}
    return {"kind": axis.kind, "length": len(axis)} | fields


def _encode_value(value):
    """Return a value of JSON: images become data URLs, other arrays lists with four decimals."""
    if not isinstance(value, np.ndarray):
        return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else value
    if value.dtype == np.uint8:
        return _data_url(value) if value.ndim == 3 else [_data_url(image) for image in value]
    if value.dtype.kind in "iu":
        return value.tolist()
    if value.ndim > 1:
        return [_encode_value(row) for row in value]
    return [None if math.isnan(x) else round(x, 4) for x in value.tolist()]


def _data_url(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(file, format="PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def main() -> None:
    """Write the page of a file of attention maps."""
    parser = argparse.ArgumentParser(prog="python -m tasks.viewer", description=main.__doc__)
    parser.add_argument("maps", help="file of attention maps (.npz)")
    parser.add_argument("page", help="file to write (.html)")
    parser.add_argument("--title", help="title of the page; by default the name of the file")
    arguments = parser.parse_args()
    try:
        maps = attention_maps.load(arguments.maps)
        write_page(maps, arguments.page, arguments.title or Path(arguments.maps).stem)
    except UserError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        sys.exit(f"error: Cannot write {arguments.page}: {error.strerror}.")


if __name__ == "__main__":
    main()

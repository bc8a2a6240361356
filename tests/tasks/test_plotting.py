"""Labels of figures: text in any script is printed, as glyphs or as code points."""

import warnings

import numpy as np
import pytest
from matplotlib import font_manager
from matplotlib.backends.backend_agg import FigureCanvasAgg

from tasks import plotting


@pytest.fixture
def bundled_fonts(monkeypatch):
    """Hide all fonts that do not belong to matplotlib, none of which has Chinese glyphs."""
    manager = font_manager.fontManager
    bundled = [font for font in manager.ttflist if "mpl-data" in font.fname]
    monkeypatch.setattr(manager, "ttflist", bundled)
    plotting._fallback_fonts.cache_clear()
    yield
    plotting._fallback_fonts.cache_clear()


@pytest.mark.usefixtures("bundled_fonts")
def test_characters_without_a_font_are_printed_as_code_points():
    texts = ["\u2581\u4e2d\u6587", "a\0", "\u210a", "$x_1$", "the"]  # U+210A is in a second font
    [labels], style = plotting.literal_text(texts)
    assert labels == ["\u2581U+4E2D U+6587", "aU+0000", "\u210a", "$x_1$", "the"]
    assert style == {"fontfamily": ["sans-serif", "STIXGeneral"], "parse_math": False}


@pytest.mark.usefixtures("bundled_fonts")
def test_attention_of_any_text_is_plotted_without_warnings():
    labels = ["\u4e2d\u6587" * 3, "\u210a", "$\\frac$", "</s>"]
    weights = [np.full((2, 4, 4), 0.25)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = plotting.attention_heads(weights, labels, labels, title="\u7ffb\u8bd1 $")
        FigureCanvasAgg(figure).draw()
    drawn = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert drawn == ["U+4E2D U+6587 " * 2 + "U+4E2D U+6587", "\u210a", "$\\frac$", "</s>"]

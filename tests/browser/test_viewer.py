"""The page of attention maps in a browser: Chromium without a window, driven by Playwright."""

import shutil

import numpy as np
import pytest

from tasks import viewer
from tasks.attention_maps import AttentionMap, Tokens
from tests.tasks.example_maps import HOSTILE, example_maps

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PHONE = {"width": 360, "height": 740}
MAPS = example_maps()

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium"),
]


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("viewer") / "page.html"
    viewer.write_page(MAPS, path, HOSTILE[0])
    return path


@pytest.fixture
def open_page(browser, path):
    """Return a function that opens the page; messages, errors and requests are failures."""
    contexts, problems = [], []

    def open_page(**options):
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(5_000)
        page.on("console", lambda message: problems.append(message.text))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(path.as_uri())
        page.wait_for_selector("html[data-ready]")
        return page

    requests = []
    yield open_page
    for context in contexts:
        context.close()
    assert problems == []
    assert {url for url in requests if not url.startswith("data:")} <= {path.as_uri()}


def select(page, record):
    """Choose the example and the map of a record by the controls."""
    page.select_option("#example", label=record.example)
    if page.is_visible("#map"):
        page.select_option("#map", label=record.name)


def choose_query(page, record, query):
    """Move to a query by the keyboard."""
    page.focus("#stage")
    page.keyboard.press("Home")
    for _ in range(query):
        page.keyboard.press("ArrowRight")


def shown_weights(page):
    """Return the weights in the lists of keys, by index."""
    items = page.eval_on_selector_all(
        "#stage [data-key].item",
        "nodes => nodes.map(n => [n.dataset.key, n.querySelector('.number').textContent])",
    )
    return {int(key): float(text) for key, text in items}


def assert_weights(page, expected):
    """Compare the weights in the list of keys and the largest in the sentence with the data."""
    shown = shown_weights(page)
    assert shown
    for key, value in shown.items():
        assert value == pytest.approx(expected[key], abs=5.1e-5)
    assert float(page.text_content("#weight")) == pytest.approx(expected.max(), abs=5.1e-5)


def canvas_colors(page):
    """Return the number of colors of each canvas, and of each circle of a plane."""
    return page.evaluate(
        """() => [...document.querySelectorAll("#stage canvas")].map((canvas) => {
          const context = canvas.getContext("2d");
          const {data} = context.getImageData(0, 0, canvas.width, canvas.height);
          return new Set(new Uint32Array(data.buffer)).size;
        })"""
    )


def test_every_kind_of_map_shows_the_weights_of_the_data(open_page):
    page = open_page()
    for record in MAPS:
        select(page, record)
        for query in {0, min(2, len(record.queries) - 1)}:
            choose_query(page, record, query)
            assert page.text_content("#position") == f"{query + 1} / {len(record.queries)}"
            layer = record.weights[0]
            assert_weights(page, (layer[0] if record.name == "memory" else layer.mean(0))[query])
        assert all(count > 2 for count in canvas_colors(page)), record.name
        axes = {record.queries.kind, record.keys.kind}
        assert (page.locator("#stage circle").count() > 0) == ("points" in axes)
        assert page.locator("#stage canvas, #stage svg").count() > 0
    assert page.title() == HOSTILE[0]


def test_layer_and_head_select_the_weights(open_page):
    page = open_page()
    record = MAPS[0]
    page.select_option("#layer", label="2")
    page.select_option("#head", label="head 3")
    choose_query(page, record, 4)
    assert_weights(page, record.weights[1, 2, 4])
    page.select_option("#head", label="mean of heads")
    assert_weights(page, record.weights[1].mean(0)[4])


def test_selected_row_is_outlined_on_the_brightest_weights(browser, tmp_path):
    axis = Tokens("tokens", "abcd")
    record = AttentionMap("uniform", "weights", np.full((1, 1, 4, 4), 0.25), axis, axis)
    viewer.write_page([record], tmp_path / "page.html", "uniform")
    context = browser.new_context(color_scheme="dark", device_scale_factor=2)
    page = context.new_page()
    page.goto((tmp_path / "page.html").as_uri())
    page.wait_for_selector("html[data-ready]")
    pixels = page.evaluate(
        """() => {
          const canvas = [...document.querySelectorAll("#stage canvas")].at(-1);
          return [...canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data];
        }"""
    )
    context.close()
    red, green, blue, alpha = np.reshape(pixels, (-1, 4)).T
    dark = (alpha == 255) & (red + green + blue < 150)  # the color of the page
    orange = (alpha == 255) & (red > 240) & (green < 170) & (blue < 100)
    assert dark.any() and orange.any()


def test_pointer_selects_and_holds_a_query(open_page):
    page = open_page()
    record = MAPS[0]
    weights = record.weights[0].mean(0)
    page.hover("[data-query='3']")
    assert_weights(page, weights[3])
    page.hover("[data-query='5']")
    assert_weights(page, weights[5])
    page.click("[data-query='1']")  # holds it
    page.hover("[data-query='5']")
    assert_weights(page, weights[1])
    page.hover("[data-key='6']")
    assert float(page.text_content("#weight")) == pytest.approx(weights[1, 6], abs=5.1e-5)
    assert HOSTILE[0] in page.text_content("#key")
    assert page.locator("#stage img").count() == 0


def test_pixel_of_an_image_is_chosen_by_a_tap(open_page):
    page = open_page(viewport=PHONE, has_touch=True)
    record = next(record for record in MAPS if record.example == "digit")
    select(page, record)
    canvas = page.locator("#stage canvas").first
    box = canvas.bounding_box()
    row, column = 3, 12
    x, y = ((n + 0.5) / 16 for n in (column, row))
    canvas.tap(position={"x": x * box["width"], "y": y * box["height"]})
    assert page.text_content("#readout b") == f"row {row + 1}, column {column + 1}"
    assert_weights(page, record.weights[0, 0, 16 * row + column])
    page.keyboard.press("ArrowDown")
    assert page.text_content("#readout b").startswith(f"row {row + 2}, ")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_fits_a_phone(scheme, open_page):
    page = open_page(viewport=PHONE, color_scheme=scheme)
    for record in MAPS:
        select(page, record)
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= PHONE["width"], (record.example, record.name)
    ink, paper = (
        np.array(
            page.evaluate(f"getComputedStyle(document.body).{name}.match(/\\d+/g).map(Number)")
        )
        for name in ("color", "backgroundColor")
    )
    assert (ink.mean() > 200) == (paper.mean() < 60) == (scheme == "dark")

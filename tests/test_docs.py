"""Pages of the documentation, without a build."""

import functools
import re

import pytest

import attention
from docs.links import dead_links
from tests.commands import ROOT

DOCS = ROOT / "docs"
PAGES = sorted(
    path
    for path in (*DOCS.rglob("*.md"), *(ROOT / "notebooks").glob("*.md"))
    if not {"_build", "generated"} & set(path.relative_to(ROOT).parts)
)
by_page = pytest.mark.parametrize(
    "page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix().removeprefix("docs/")
)
CONFIGS = sorted(path.stem for path in (ROOT / "configs").glob("*.py"))
LINK = re.compile(r"\]\((?!\w+:)([^)#\s]+)(?:#[^)\s]*)?\)")


@functools.cache
def read(folder):
    """Join the texts of all pages in a folder of the documentation."""
    return "\n".join(path.read_text("utf-8") for path in PAGES if path.is_relative_to(folder))


@pytest.mark.parametrize("config", CONFIGS)
def test_config_is_named_on_a_page_and_in_the_reference(config):
    assert f"configs.{config}\n" in read(DOCS / "reference")
    assert f"configs/{config}.py" in read(DOCS / "papers") + read(DOCS / "mechanisms")


@pytest.mark.parametrize("name", attention.__all__)
def test_exported_function_has_a_mechanism_page(name):
    assert re.search(rf"attention\.\w+\.{name}`", read(DOCS / "mechanisms"))


@pytest.mark.parametrize("name", [x.stem for x in (DOCS / "mechanisms").glob("[!i]*.md")])
def test_mechanism_page_leads_to_the_function_and_its_tests(name):
    text = (DOCS / "mechanisms" / f"{name}.md").read_text("utf-8")
    (module,) = re.findall(r"Reference: {mod}`attention\.(\w+)`", text)
    assert f"](../../attention/{module}.py)" in text
    assert "](../../tests/attention/test_" in text
    assert f"({name}.md)" in read(DOCS / "mechanisms" / "index.md")


@by_page
def test_relative_links_exist(page):
    missing = [x for x in LINK.findall(page.read_text("utf-8")) if not (page.parent / x).exists()]
    assert not missing


@by_page
def test_page_is_in_a_table_of_contents(page):
    entry = re.compile(rf"^(?:\.\./|\w+/)*{page.stem}$", re.MULTILINE)
    tables = re.findall(r"```{toctree}\n(.*?)```", read(DOCS), re.DOTALL)
    assert (page.parent == DOCS and page.stem == "index") or any(map(entry.search, tables))


def test_dead_links_of_built_pages_are_found(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b.html").write_text('<p id="x&amp;y"></p><a href="../a b.html#top">')
    (tmp_path / "file.py").touch()
    alive = [
        "#top",
        "sub/b.html#x&amp;y",
        "sub",
        "https://example.org/missing",
        "mailto:a@b.c",
        (tmp_path / "file.py").as_uri() + "#L3",
    ]
    dead = ["#missing", "missing.html", "sub/b.html#x", "image.png", f"file://{tmp_path}/missing"]
    links = "".join(f'<a class="x" href="{link}"></a>' for link in (*alive, *dead[:3], dead[4]))
    page = f'<h1 id="top"></h1>{links}<img src="image.png">'
    (tmp_path / "a b.html").write_text(page)
    assert set(dead_links(tmp_path)) == {f"a b.html: {link}" for link in dead}

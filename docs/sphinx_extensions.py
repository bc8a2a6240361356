"""Small extensions of Sphinx: formulas as MathML, links, signatures and docstrings.

Browsers display MathML without a script, so the pages need no network and no copy of MathJax.
"""

import ast
import importlib
import inspect
import os
import pkgutil
import re
import textwrap
from pathlib import Path
from typing import Any

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.util import logging

from docs.links import dead_links

ROOT = Path(__file__).parent.parent
PACKAGES = ("attention", "models", "tasks", "training", "configs")
LINK = re.compile(  # but not images
    r"(?<!!)\[(?P<text>[^\]]*)\]\((?P<path>(?:\.\./)+[^)#\s]+)(?P<anchor>#[^)\s]*)?\)"
)
REPOSITORY = "https://repository.invalid"  # stands for the root of the repository in links
logger = logging.getLogger(__name__)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the extensions."""
    unwrap_functions()
    app.add_html_math_renderer("mathml", (inline_math, None), (display_math, None))
    app.connect("source-read", mark_repository_links)
    app.connect("doctree-resolved", link_repository_files)
    app.connect("autodoc-process-signature", source_signature)
    app.connect("autodoc-process-docstring", adapt_docstring, priority=400)  # before napoleon
    app.connect("build-finished", check_links)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def inline_math(translator: Any, node: nodes.math) -> None:
    """Write a formula in a line of text."""
    translator.body.append(convert(node.astext()))
    raise nodes.SkipNode


def display_math(translator: Any, node: nodes.math_block) -> None:
    """Write a formula on its own line."""
    formula = convert(node.astext(), display="block")
    translator.body.append(f'<div class="math">{formula}</div>\n')
    raise nodes.SkipNode


def mark_repository_links(app: Sphinx, name: str, source: list[str]) -> None:
    """Replace relative links to files outside of the documentation by `REPOSITORY`/path.

    `docs/notebooks` is a symbolic link, which MyST resolves to a path outside of the documentation.
    Therefore links to notebooks become `doc` roles, and links from notebooks to pages become
    absolute.
    """
    page = Path(app.env.doc2path(name))

    def replace(match: re.Match[str]) -> str:
        target = (page.parent / match["path"]).resolve()
        if not target.is_relative_to(ROOT):
            return match[0]
        if not target.exists():
            logger.warning("%s: no such file: %s", name, match["path"])
        path, root = target.relative_to(ROOT), REPOSITORY
        if target.is_relative_to(app.srcdir):
            path, root = target.relative_to(app.srcdir), ""
        elif path.parent.name == "notebooks" and path.suffix == ".md":
            return f"{{doc}}`{match['text']} </{path.with_suffix('')}>`"
        return f"[{match['text']}]({root}/{path.as_posix()}{match['anchor'] or ''})"

    source[0] = LINK.sub(replace, source[0])


def link_repository_files(app: Sphinx, doctree: nodes.document, name: str) -> None:
    """Link to files of the repository: on GitHub if it builds the pages, else on this machine."""
    github = os.environ.get("GITHUB_REPOSITORY")
    base = f"https://github.com/{github}/blob/main" if github else ROOT.as_uri()
    for link in doctree.findall(nodes.reference):
        address = link.get("refuri", "")
        if address.startswith(REPOSITORY):
            link["refuri"] = address.replace(REPOSITORY, base, 1)


def check_links(app: Sphinx, exception: Exception | None) -> None:
    """Warn of links to files or anchors that do not exist."""
    if exception is None:
        for link in dead_links(app.outdir):
            logger.warning("dead link: %s", link)


def unwrap_functions() -> None:
    """Replace functions with custom derivatives by the functions that they wrap.

    Autodoc would document the wrapper objects of `jax.custom_vjp` as data.
    """
    for package in PACKAGES:
        paths = importlib.import_module(package).__path__
        for info in pkgutil.walk_packages(paths, f"{package}."):
            module = importlib.import_module(info.name)
            for name, value in list(vars(module).items()):
                function = inspect.unwrap(value) if callable(value) else value
                if type(value).__module__.startswith("jax.") and inspect.isfunction(function):
                    setattr(module, name, function)


def source_signature(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, signature: str, returns: str
) -> tuple[str, str | None] | None:
    """Return the signature as it is written in the source, with the shapes of arrays."""
    function = obj.__init__ if what == "class" else obj
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(function)))).body[0]
    except (OSError, TypeError, SyntaxError):  # no source, or not a function
        return None
    if not isinstance(tree, ast.FunctionDef):
        return None
    positional = [*tree.args.posonlyargs, *tree.args.args]
    if positional and positional[0].arg in ("self", "cls"):
        del (tree.args.posonlyargs or tree.args.args)[0]
    result = ast.unparse(tree.returns) if tree.returns and what != "class" else None
    return f"({ast.unparse(tree.args)})", result


def adapt_docstring(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    """Adapt the Markdown of docstrings to reStructuredText.

    Indented paragraphs and tables are code, and `*` and `|` have no special meaning.
    """
    adapted: list[str] = []
    in_code = False
    for n, line in enumerate(lines):
        is_table, is_code = line.startswith("|"), line.startswith("    ")
        above = next((x for x in reversed(lines[:n]) if x), "")
        starts = n > 0 and not lines[n - 1] and bool(above)
        if starts and (is_table or (is_code and not above.startswith((" ", ":", ".. ", "- ")))):
            adapted += ["::", ""]
            in_code = True
        elif line and not is_table and not is_code:
            in_code = False
        if is_table:
            line = f"    {line}"
        elif not in_code:
            parts = re.split(r"(`[^`]*`)", line)  # odd parts are code
            parts[::2] = [re.sub(r"([|*])", r"\\\1", part) for part in parts[::2]]
            line = "".join(parts)
        adapted.append(line)
    lines[:] = adapted

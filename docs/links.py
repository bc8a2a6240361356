"""Check of the links inside the built documentation."""

import functools
import html
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

LINK = re.compile(r'\s(?:href|src)="([^"]*)"')
ANCHOR = re.compile(r'\s(?:id|name)="([^"]+)"')


def dead_links(directory: Path) -> Iterator[str]:
    """Yield 'PAGE: LINK' for each link to a file or an anchor that does not exist.

    Links to other hosts are not followed.

    Args:
        directory: directory of HTML pages.
    """
    for page in sorted(directory.rglob("*.html")):
        for link in sorted(set(LINK.findall(page.read_text("utf-8")))):
            if not _exists(page, html.unescape(link)):
                yield f"{page.relative_to(directory)}: {link}"


def _exists(page: Path, link: str) -> bool:
    parts = urlsplit(link)
    if parts.scheme not in ("", "file"):
        return True
    path = unquote(parts.path)
    target = Path(path) if parts.scheme else page.parent / path if path else page
    if not target.exists():
        return False
    # A fragment of a file that is not a page is a line or a heading on GitHub.
    fragment = unquote(parts.fragment)
    return not fragment or target.suffix != ".html" or fragment in _anchors(target.resolve())


@functools.cache
def _anchors(page: Path) -> frozenset[str]:
    return frozenset(map(html.unescape, ANCHOR.findall(page.read_text("utf-8"))))

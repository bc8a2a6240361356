"""Imports between the packages of the repository."""

import ast

import pytest

from tests.commands import ROOT

ALLOWED = {
    "attention": set(),
    "training": set(),
    "models": {"attention"},
    "tasks": {"attention", "models", "training"},
}
PACKAGES = {*ALLOWED, "benchmarks", "configs", "tests"}


def modules(package):
    """Yield names and paths of the modules of a package."""
    for path in (ROOT / package).rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        yield ".".join(parts).removesuffix(".__init__"), path


def imports(path):
    """Yield the names of imported modules, and of the objects imported from modules."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"relative import in {path}"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("package", ALLOWED)
def test_package_imports_only_lower_packages(package):
    for name, path in modules(package):
        imported = {module.split(".")[0] for module in imports(path)} & PACKAGES
        assert imported <= ALLOWED[package] | {package}, name


def test_no_two_modules_import_each_other():
    paths = dict(module for package in ALLOWED for module in modules(package))

    def imported_modules(path):
        return {x if x in paths else x.rpartition(".")[0] for x in imports(path)} & paths.keys()

    graph = {name: imported_modules(path) for name, path in paths.items()}
    assert [(a, b) for a in graph for b in graph[a] if a in graph[b]] == []

"""Imports between the packages of the repository, and the length of files."""

import ast
import functools
import graphlib
import subprocess
import sys

import pytest

from tests.commands import ROOT

ALLOWED = {  # packages of the repository that a package imports, besides itself
    "attention": set(),
    "training": set(),
    "models": {"attention"},
    "tasks": {"attention", "models", "training"},
    "configs": set(),
    "configs.launchers": set(),
    "configs.sweeps": {"configs", "training"},
}
ALLOWED_EXTERNAL = {  # besides the standard library
    "attention": {"jax", "jaxtyping"},
    "models": {"flax", "jax", "jaxtyping", "numpy"},
    "configs": {"ml_collections"},
    "configs.launchers": {"ml_collections"},
}
MAX_LINES = 400


def find_modules():
    """Return the paths of all Python files by module name."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.py"]
    output = subprocess.check_output(command, cwd=ROOT, text=True)
    paths = [ROOT / line for line in output.splitlines() if (ROOT / line).exists()]
    return {module_name(path.relative_to(ROOT)): path for path in paths}


def module_name(path):
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def imported_names(source):
    """Yield the names of imported modules, and of the objects imported from modules."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


MODULES = find_modules()
PACKAGES = {name.split(".")[0] for name in MODULES}  # top-level scripts included


@functools.cache
def find_imports():
    """Return the imported names of all modules.

    Computed at the first call, because every worker of pytest-xdist imports this file.
    """
    return {name: {*imported_names(path.read_text())} for name, path in MODULES.items()}


def package_of(module):
    """Return the key of `ALLOWED` that a module belongs to."""
    parts = module.split(".")
    two = ".".join(parts[:2])
    return two if two in ALLOWED and len(parts) > 2 else parts[0]


def forbidden_imports(module, names):
    """Return the imported names that the tables above do not allow."""
    package = package_of(module)
    allowed = ALLOWED[package] | {package.split(".")[0]}
    external = ALLOWED_EXTERNAL.get(package)
    forbidden = set()
    for name in names:
        top = name.split(".")[0]
        if top in PACKAGES:
            is_allowed = top in allowed
        else:
            is_allowed = external is None or top in external or top in sys.stdlib_module_names
        forbidden |= set() if is_allowed else {name}
    return forbidden


@pytest.mark.parametrize("package", ALLOWED)
def test_package_imports_only_allowed_packages(package):
    modules = [module for module in MODULES if package_of(module) == package]
    assert modules
    imports = find_imports()
    assert {x for module in modules for x in forbidden_imports(module, imports[module])} == set()


@pytest.mark.parametrize(
    "module, source, expected",
    [
        ("attention.scores", "import jax, math\nfrom attention import masks", set()),
        ("attention.scores", "from training import mesh", {"training.mesh"}),
        ("attention.scores", "import flax.nnx", {"flax.nnx"}),
        (
            "models.ntm.network",
            "def f():\n    from tasks.memory import task",
            {"tasks.memory.task"},
        ),
        ("training.loop", "import tasks", {"tasks"}),
        ("configs.ntm_copy", "from training.sweeps import Run", {"training.sweeps.Run"}),
        ("configs.sweeps.ntm", "from training.sweeps import Run", set()),
        ("tasks.memory.task", "import tests.toy, sweep", {"tests.toy", "sweep"}),
    ],
)
def test_forbidden_import_is_found(module, source, expected):
    assert forbidden_imports(module, imported_names(source)) == expected


def test_task_packages_do_not_import_each_other():
    def task_of(name):
        parts = name.split(".")
        is_in_package = parts[0] == "tasks" and len(parts) > 1 and f"tasks.{parts[1]}" in packages
        return parts[1] if is_in_package else None

    packages = {name for name, path in MODULES.items() if path.stem == "__init__"}
    assert "tasks.memory" in packages
    for module, names in find_imports().items():
        if task := task_of(module):
            assert {task_of(name) for name in names} <= {task, None}, module


def test_modules_have_no_import_cycle():
    def module_of(name):
        return name if name in MODULES else name.rpartition(".")[0]

    imports = find_imports()
    graph = {module: {*map(module_of, names)} & {*MODULES} for module, names in imports.items()}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError


def test_files_are_short():
    lengths = {name: len(path.read_text().splitlines()) for name, path in MODULES.items()}
    assert {name: n for name, n in lengths.items() if n > MAX_LINES} == {}

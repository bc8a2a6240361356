"""Configuration of Sphinx: `make docs` builds the documentation without network."""

import hashlib
import os
import sys
from pathlib import Path

DOCS = Path(__file__).parent
ROOT = DOCS.parent
sys.path[:0] = [str(ROOT), str(DOCS)]
# The kernels that execute the pages import the packages of the repository and `plots.py`.
os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(DOCS)])
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# XLA's fusion emitters double the compilation time on a CPU.
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_use_fusion_emitters=false")
os.environ["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"  # the kernel's debugger is not used

from docs.sphinx_extensions import PACKAGES  # noqa: E402 - after the path is set

project = "Attention Atlas"
author = copyright = "The Attention Atlas authors"

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "docs.sphinx_extensions",
]
exclude_patterns = ["_build", "_templates", "notebooks/*.ipynb"]  # the pairs of notebooks/*.md
templates_path = ["_templates"]
html_theme = "furo"
html_title = "Attention Atlas"
html_static_path = ["_static"]
html_css_files = ["book.css"]
html_copy_source = False
html_math_renderer = "mathml"
# Otherwise `problem_type = Triangulation` of a task links the source of the class to the task.
viewcode_follow_imported_members = False

# Cross-references must resolve, except for types in signatures, which belong to other libraries.
nitpicky = True
nitpick_ignore_regex = [("py:class", ".*"), ("py:data", ".*")]
suppress_warnings = ["ref.python"]  # classes of the same name in signatures, such as `Memory`

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
nb_render_markdown_format = "myst"  # tables in the output of cells
nb_execution_mode = "cache"
nb_execution_raise_on_error = True
nb_execution_timeout = 300
# Outputs depend on the code, the templates of figures and the recorded results, too.
inputs = [
    *(path for name in PACKAGES for path in (ROOT / name).rglob("*.py")),
    *ROOT.glob("results/*/summary*.json"),
    *ROOT.glob("results/*.py"),
    DOCS / "plots.py",
    ROOT / "tasks" / "viewer.html",
]
digest = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(inputs))).hexdigest()
nb_execution_cache_path = str(DOCS / "_build" / "executed" / digest[:16])

default_role = "code"  # docstrings mark code by single backticks
autosummary_generate = True
autodoc_member_order = "bysource"
autodoc_default_options = {
    "members": True,
    "undoc-members": True,
    "ignore-module-all": True,  # document an object in the module that defines it
}
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
napoleon_attr_annotations = False
napoleon_preprocess_types = False

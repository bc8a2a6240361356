"""Compilation cache and fixtures for all tests."""

import os
import sys
import tempfile

# The tests compile many identical programs, in the processes of pytest-xdist, in subprocesses and
# in one process for different functions. JAX reads these variables when it is imported.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    _cache = tempfile.TemporaryDirectory(prefix="jax-cache-")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _cache.name
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")

# XLA's fusion emitters double the compilation time on a CPU, and LLVM's expensive passes add to it.
# An explicit XLA_FLAGS takes precedence, even if empty: the nightly tests run with the default
# compiler.
os.environ.setdefault(
    "XLA_FLAGS", "--xla_cpu_use_fusion_emitters=false --xla_llvm_disable_expensive_passes=true"
)

import jaxtyping
import pytest

# Bytecode is written, whatever the environment: otherwise every worker and subprocess compiles the
# same modules, in every run.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


def pytest_ignore_collect(collection_path, config):
    """Ignore deselected comparisons with PyTorch, because importing it takes seconds."""
    is_peers = collection_path.name.endswith("_peers.py")
    return True if is_peers and "not peers" in config.option.markexpr else None


@pytest.fixture
def disable_type_checks():
    """Pass arguments of a wrong type to the function, as outside of tests."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="session", autouse=True)
def checked_images(tmp_path_factory):
    """Keep the records of checked image files and decoded images out of the home directory."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tasks.images.CHECKED_DIR", tmp_path_factory.mktemp("checked_images"))
        decoded = tmp_path_factory.mktemp("decoded_images")
        patch.setattr("tasks.image_generation.data.decoded.DECODED_DIR", decoded)
        yield

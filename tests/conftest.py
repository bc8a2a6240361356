"""Compilation cache and fixtures shared by all tests."""

import contextlib
import os
import tempfile
from unittest import mock

# The tests compile many identical programs, in the processes of pytest-xdist, in subprocesses and
# in one process for different functions. JAX reads these variables when it is imported.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    _cache = tempfile.TemporaryDirectory(prefix="jax-cache-")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _cache.name
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")

import jaxtyping
import pytest

from tests import commands


@pytest.fixture
def disable_type_checks():
    """Pass arguments of a wrong type to the function, as outside of tests."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="session")
def recorded_run(tmp_path_factory):
    """Run directory of a finished `commands.SMOKE_CONFIG` run, and the config keys that it read."""
    import tasks  # not at the top: type checks are only added to modules imported after collection

    workdir, read, build = tmp_path_factory.mktemp("smoke") / "run", set(), tasks.build
    with contextlib.ExitStack() as stack:

        def recorded_build(config, workdir):
            stack.enter_context(commands.record_config_reads(config, read))
            return build(config, workdir)

        stack.enter_context(mock.patch("tasks.build", recorded_build))
        done = commands.run_in_process("train.py", commands.SMOKE_CONFIG, f"--workdir={workdir}")
    assert done.code == 0, done.errors
    return workdir, read


@pytest.fixture(scope="session")
def smoke_run(recorded_run):
    """Run directory of that run; tests must copy it before changing it."""
    return recorded_run[0]

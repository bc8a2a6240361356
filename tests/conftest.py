"""Fixtures that tests of several rooms use."""

import contextlib
from unittest import mock

import jaxtyping
import pytest

from tests import commands


@pytest.fixture
def unchecked():
    """Lets arguments of a wrong type through to the function, as outside of tests."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="session")
def recorded_run(tmp_path_factory):
    """The folder of a finished run of `commands.NUMBERS`, and the keys that it read."""
    import tasks  # not above: the signatures of what is imported there would go unchecked

    workdir, read, build = tmp_path_factory.mktemp("smoke") / "run", set(), tasks.build
    with contextlib.ExitStack() as stack:

        def recorded_build(config, workdir):
            stack.enter_context(commands.record_config_reads(config, read))
            return build(config, workdir)

        stack.enter_context(mock.patch("tasks.build", recorded_build))
        done = commands.run_in_process("train.py", commands.NUMBERS, f"--workdir={workdir}")
    assert done.code == 0, done.errors
    return workdir, read


@pytest.fixture(scope="session")
def smoke_run(recorded_run):
    """The folder of that run; to change it, copy it."""
    return recorded_run[0]

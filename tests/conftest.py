"""Fixtures that tests of several rooms use."""

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
def smoke_run(tmp_path_factory):
    """The folder of a finished run of `commands.NUMBERS`; to change it, copy it."""
    workdir = tmp_path_factory.mktemp("smoke") / "run"
    done = commands.here("train.py", commands.NUMBERS, f"--workdir={workdir}")
    assert done.code == 0, done.errors
    return workdir

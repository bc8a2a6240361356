"""Lookup of tasks by name."""

import importlib
from unittest import mock

import jax
import pytest

import tasks
from tasks.attention_kernel import check_kernel
from tests import toy
from training.errors import UserError


def test_names_are_found_without_importing_any_task():
    with mock.patch("importlib.import_module", side_effect=AssertionError("imported")):
        names = tasks.names()
    assert {"memory", "pointing.tsp", "translation", "translation.hard_attention"} <= {*names}
    assert not any(name.endswith(".task") for name in names)


def test_each_name_is_a_module_with_a_build_function():
    for name in tasks.names():
        assert callable(importlib.import_module(f"tasks.{name}").build)


@pytest.mark.parametrize("package", ["", "my_package."])
def test_module_of_the_user_is_a_task(package, tmp_path, monkeypatch):
    directory = tmp_path / package.rstrip(".")
    directory.mkdir(exist_ok=True)
    (directory / "my_task.py").write_text("from tests.toy import build\n")
    monkeypatch.syspath_prepend(tmp_path)
    config = toy.get_config()
    config.task = f"{package}my_task"
    assert isinstance(tasks.build(config, ""), toy.Toy)


@pytest.mark.parametrize(
    "name, message",
    [
        ("memry", "There is no task 'memry'. Did you mean 'memory'?"),
        ("pointing.tps", "There is no task 'pointing.tps'. Did you mean 'pointing.tsp'?"),
        ("nowhere.task", "There is no task 'nowhere.task'."),
        ("../task", "There is no task '../task'."),
        ("memory.sequences", "'memory.sequences' is not a task: "),
        ("needy_task", "The task 'needy_task' needs the package missing_package: install it."),
    ],
)
def test_module_that_is_not_a_task_is_rejected(name, message, tmp_path, monkeypatch):
    (tmp_path / "needy_task.py").write_text("import missing_package\n")
    monkeypatch.syspath_prepend(tmp_path)
    config = toy.get_config()
    config.task = name
    with pytest.raises(UserError) as error:
        tasks.build(config, "")
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(
    ("key_width", "value_width", "supported"),
    [(64, 64, True), (16, 64, False), (12, 12, False), (512, 512, False)],
)
def test_widths_of_the_fused_kernel(key_width, value_width, supported, monkeypatch):
    """Three rows of table 3 of Vaswani et al. have widths that cuDNN does not support."""
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    model = {"implementation": "cudnn", "dtype": "bfloat16"}
    model |= {"key_width": key_width, "value_width": value_width}
    if supported:
        check_kernel(model)
        return
    with pytest.raises(UserError, match="a multiple of 8, and at most 256"):
        check_kernel(model)

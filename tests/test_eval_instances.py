"""`eval.py` solves instances with a pointer network."""

import errno
import json
import locale
import math
from unittest import mock

import jax
import numpy as np
import pytest

from configs import ptrnet_tsp
from tasks import attention_maps
from tests.commands import run_in_process

SQUARE = [(2, 1), (5, 1), (5, 4), (2, 4), (3, 2), (4, 3)]


@pytest.fixture(scope="module")
def tsp_run(tmp_path_factory):
    """Run directory with the initial state of a pointer network for the TSP."""
    import tasks
    from training import run
    from training.checkpoints import Checkpoints

    config, workdir = ptrnet_tsp.get_config("smoke"), tmp_path_factory.mktemp("tsp")
    run.open_workdir(config, str(workdir))
    key = jax.random.key(0)
    state = jax.jit(tasks.build(config, str(workdir)).init)(key)
    checkpoints = Checkpoints.from_config(str(workdir), config.train)
    checkpoints.save(0, state, key, 0.0)
    checkpoints.close()
    return workdir


def tsplib(cities, name="square"):
    lines = [f"{n + 1} {x} {y}" for n, (x, y) in enumerate(cities)]
    header = [f"NAME: {name}", "TYPE: TSP", f"DIMENSION: {len(cities)}", "EDGE_WEIGHT_TYPE: EUC_2D"]
    return "\n".join([*header, "NODE_COORD_SECTION", *lines, "EOF"])


def test_solution_is_written_next_to_the_instance(tsp_run, tmp_path):
    """The tour has the printed length, and does not depend on the unit of the coordinates."""
    tours = []
    for name, scale, encoding in (("meters", 1, "utf-8"), ("Füße", 10, "latin-1")):
        cities = [(scale * x + 7, scale * y - 3) for x, y in SQUARE]
        file = tmp_path / f"{scale}.tsp"
        file.write_text(tsplib(cities, name), encoding)
        done = run_in_process("eval.py", f"--workdir={tsp_run}", f"--instance={file}", "--beam=2")
        assert done.code == 0, done.errors
        head, tour = file.with_suffix(".tour").read_text("utf-8").split("TOUR_SECTION")
        assert f"NAME : {name}.tour\n" in head
        tour = tour.split()
        tours.append([int(city) - 1 for city in tour[: tour.index("-1")]])
        edges = zip(tours[-1], tours[-1][1:] + tours[-1][:1], strict=True)
        length = sum(round(math.dist(cities[a], cities[b])) for a, b in edges)
        assert f"length {length}." in done.output
        assert f"Solution written to {file.with_suffix('.tour')}." in done.output
    assert sorted(tours[0]) == [*range(len(SQUARE))] and tours[0] == tours[1]


def test_json_has_overridden_sections(tsp_run):
    from tasks.pointing.tsp import TSP

    search = {"kind": "sampling", "samples": 4, "batch": 2, "temperature": 1.5}
    with mock.patch.object(TSP, "evaluate", return_value={"gap_n5": 0.5}):
        flag = f"--config.search={search}"
        done = run_in_process("eval.py", f"--workdir={tsp_run}", "--json", flag)
    assert json.loads(done.output)["overrides"] == {"search": search}


def test_sampling_finds_the_optimum_of_an_instance(tsp_run, tmp_path):
    (file := tmp_path / "square.tsp").write_text(tsplib(SQUARE))
    search = '{"kind": "sampling", "samples": 2000, "batch": 1000, "temperature": 3.0}'
    flags = f"--workdir={tsp_run}", f"--config.search={search}"
    done = run_in_process("eval.py", f"--instance={file}", *flags)
    assert done.code == 0, done.errors
    assert "with length 12." in done.output  # the optimum


@pytest.fixture
def solve_with(tsp_run, tmp_path):
    """Return a function that runs `eval.py --instance` with a fixed solution, and the paths."""
    from tasks.base import Solution
    from tasks.pointing.tsp import TSP

    (file := tmp_path / "square.tsp").write_text(tsplib(SQUARE))

    def command(text, *flags):
        with mock.patch.object(TSP, "solve_instance", return_value=Solution("Solved.", text)):
            return run_in_process("eval.py", f"--workdir={tsp_run}", f"--instance={file}", *flags)

    return command, file.with_suffix(".tour")


def test_existing_solution_is_replaced_only_with_overwrite(solve_with):
    command, path = solve_with
    path.write_text("old")
    done = command("new")
    assert (done.code, path.read_text()) == (2, "old")
    assert done.errors == f"error: {path} exists already: pass --overwrite to replace it.\n"
    assert command("new", "--overwrite").code == 0
    assert path.read_text() == "new"


def test_solution_is_written_in_utf8_in_every_locale(solve_with):
    command, path = solve_with
    previous = locale.setlocale(locale.LC_CTYPE)
    locale.setlocale(locale.LC_CTYPE, "C")
    try:
        done = command("NAME : Füße – 東京")
    finally:
        locale.setlocale(locale.LC_CTYPE, previous)
    assert done.code == 0, done.errors
    assert path.read_bytes().decode("utf-8") == "NAME : Füße – 東京"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (errno.ENOSPC, "free some disk space and run the same command again."),
        (errno.EIO, "Cannot write the solution to {path}: copy or rename the instance file."),
    ],
)
def test_existing_solution_survives_a_failed_write(error, message, solve_with):
    command, path = solve_with
    path.write_text("old")
    with mock.patch("os.replace", side_effect=OSError(error, "failed")):
        done = command("new", "--overwrite")
    assert (done.code, path.read_text()) == (2, "old")
    assert message.format(path=path) in done.errors and done.errors.count("\n") == 1
    assert sorted(path.parent.iterdir()) == [path, path.with_suffix(".tsp")]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--length_penalty=1"], "The task 'pointing.tsp' does not support --length_penalty."),
        (["--translate=one"], "The task 'pointing.tsp' does not support --translate."),
        (["--view=nowhere.tsp"], "The file nowhere.tsp does not exist."),
        (["--view", "--json"], "Pass only one of --translate, "),
        (["--save_attention=no/where.npz"], "Cannot write the attention maps to no/where.npz: "),
        (["--instance=nowhere.tsp"], "The file nowhere.tsp does not exist."),
        (["--instance={file}"], "Cannot write the solution to {file}: "),
        (["--json", "--config.model.width=9"], "Cannot restore the run with model.width=9: "),
    ],
)
def test_flags_that_a_run_does_not_support_are_rejected(flags, message, tsp_run, tmp_path):
    (file := tmp_path / "square.tour").touch()
    flags = [flag.format(file=file) for flag in flags]
    done = run_in_process("eval.py", f"--workdir={tsp_run}", *flags)
    assert done.code == 2 and message.format(file=file) in done.errors


@pytest.mark.slow
def test_view_shows_the_tour_of_an_instance(tsp_run, tmp_path):
    (instance := tmp_path / "square.tsp").write_text(tsplib(SQUARE))
    file = tmp_path / "maps.npz"
    workdir = shutil.copytree(tsp_run, tmp_path / "run")
    flags = [f"--view={instance}", f"--save_attention={file}"]
    done = run_in_process("eval.py", f"--workdir={workdir}", *flags)
    assert done.code == 0, done.errors
    (record,) = attention_maps.load(file)
    assert record.example == "square" and record.weights.shape == (1, 1, 6, 6)
    assert sorted(record.queries.indices) == [*range(6)]
    chosen = record.weights[0, 0, range(6), record.queries.indices]
    np.testing.assert_array_equal(chosen, record.weights[0, 0].max(-1))  # greedy decoding

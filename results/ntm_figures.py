"""Draw figures 3 to 18 of Graves et al. 2014 from the finished runs of the sweep `ntm_tasks`.

    python -m results.ntm_figures runs/ntm_tasks [OUTPUT_DIR]

Figures are written to OUTPUT_DIR, by default `figures` in the directory of the sweep. A figure
whose runs are not finished is left out.
"""

import functools
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from configs.papers.graves2014 import CURVES, OTHERS
from configs.sweeps import ntm_tasks
from results.overview import restore_run
from tasks import plotting
from tasks.memory.task import Example, plot_memory_access
from training import metric_writer, run
from training.cli import run_main
from training.errors import UserError
from training.learning_curve import set_style
from training.plots import learning_curves
from training.sweeps import Result

BITS = "bits_per_sequence"
CONTEXT = 5  # bits on which the next bit of dynamic n-grams depends
INFERENCE_STEPS = 50  # steps of figure 14, the last of the sequence


def main(arguments: Sequence[str]) -> None:
    """Write the figures, and print their paths.

    Raises:
        UserError: if the arguments are wrong, or no run of the sweep is finished.
    """
    if len(arguments) not in (1, 2):
        raise UserError("Usage: python -m results.ntm_figures SWEEP_DIR [OUTPUT_DIR].")
    runs = {
        (str(result.run.labels["task"]), str(result.run.labels["model"])): (workdir, result)
        for workdir, result in read_results(Path(arguments[0]))
    }
    if not runs:
        raise UserError(f"{arguments[0]} has no finished run of configs/sweeps/ntm_tasks.py.")
    output = Path(arguments[1] if len(arguments) == 2 else Path(arguments[0], "figures"))
    run.make_writable_dir(output)
    for name, figure in draw(runs):
        figure.savefig(output / f"{name}.png", dpi=100)
        print(output / f"{name}.png", flush=True)


def read_results(directory: Path) -> Iterator[tuple[str, Result]]:
    """Yield the run directory and the result of each finished run."""
    for item in ntm_tasks.runs():
        workdir = str(directory / item.name)
        if summary := run.read_summary(workdir):
            yield workdir, Result(item, summary, metric_writer.read(workdir))


def draw(runs: dict[tuple[str, str], tuple[str, Result]]) -> Iterator[tuple[str, Figure]]:
    """Yield the names and figures whose runs are finished.

    Args:
        runs: run directory and result, by task and model.
    """
    restore = functools.cache(examples)
    for n, (task, _, _) in CURVES.items():
        results = [result for key, (_, result) in runs.items() if key[0] == task]
        if results:
            curves = learning_curves(results, BITS, panels="task", lines="model", unit="sequences")
            yield f"figure_{n:02}", curves
    for n, (task, title, models) in OTHERS.items():
        found = {model: runs[task, model] for model in models if (task, model) in runs}
        kind = title.split(" of ")[0]
        if found and (n, kind) == (11, "generalization"):
            results = [result for _, result in found.values()]
            yield f"figure_{n:02}", cost_by_items(results)
        elif found and kind == "memory use":
            for model, (workdir, _) in found.items():
                name = f"figure_{n:02}_{model.replace(', ', '_').replace('-', '_')}"
                yield name, plot_memory_access(restore(workdir)[0])
        elif found:
            by_model = {model: restore(workdir) for model, (workdir, _) in found.items()}
            yield f"figure_{n:02}", DRAWERS[kind](by_model)


def examples(workdir: str) -> list[Example]:
    """Predict sequences of each split with the last checkpoint of a run."""
    task, state = restore_run(workdir)
    return task.examples(state)


def generalization(by_model: dict[str, list[Example]]) -> Figure:
    """Plot targets and outputs of sequences that are longer than in training (fig. 4, 5 and 8).

    The steps before the outputs are left out.
    """
    start = lambda example: int(np.argmax(example.outputs.any(axis=1)))
    panels = {
        f"{model}, {example.title}": tuple(
            x[start(example) :] for x in (example.targets, example.outputs)
        )
        for model, model_examples in by_model.items()
        for example in model_examples
        if example.split.startswith("test_")
    }
    return plotting.sequences(panels, ("target", "output"))


def cost_by_items(results: Sequence[Result]) -> Figure:
    """Plot the cost of sequences with more items than in training (fig. 11)."""
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.subplots()
    for result in results:
        metrics = (result.summary or {})["metrics"]
        costs = {
            int(name.split("/")[0].removeprefix("test_")): value
            for name, value in metrics.items()
            if name.startswith("test_") and name.endswith(f"/{BITS}")
        }
        items = sorted(costs)
        axes.plot(items, [costs[n] for n in items], ".-", label=str(result.run.labels["model"]))
    axes.set(xlabel="items per sequence", ylabel="bits per sequence")
    set_style(axes)
    axes.legend(frameon=False)
    return figure


def inference(by_model: dict[str, list[Example]]) -> Figure:
    """Plot predictions of dynamic n-grams beside those of the optimal estimator (fig. 14)."""
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    axes = figure.subplots()
    first = next(iter(by_model.values()))[0]
    bits = first.targets[:, 0]
    steps = np.arange(len(bits))[-INFERENCE_STEPS:]
    axes.plot(steps, bits[steps], "k|", ms=9, label="bits")
    axes.plot(steps, optimal_predictions(bits)[steps], "k--", lw=1, label="optimal")
    for model, model_examples in by_model.items():
        axes.plot(steps, model_examples[0].outputs[steps, 0], lw=1.2, label=model)
    axes.set(xlabel="step", ylabel="probability of a one", ylim=(-0.05, 1.05))
    set_style(axes)
    figure.legend(loc="outside upper right", ncols=4, frameon=False)
    return figure


def optimal_predictions(bits: Float[np.ndarray, " T"]) -> Float[np.ndarray, " T"]:
    """Return the optimal probability of a one at each step (eq. 10), 1/2 without a context."""
    counts: dict[tuple[float, ...], list[float]] = {}
    predictions = np.full(len(bits), 0.5)
    for t in range(CONTEXT, len(bits)):
        zeros_and_ones = counts.setdefault(tuple(bits[t - CONTEXT : t]), [0.5, 0.5])
        predictions[t] = zeros_and_ones[1] / sum(zeros_and_ones)
        zeros_and_ones[int(bits[t])] += 1
    return predictions


def example_of_sort(by_model: dict[str, list[Example]]) -> Figure:
    """Plot the inputs and targets of a sequence (fig. 16); the last rows hold the priorities."""
    example = next(iter(by_model.values()))[0]
    return plotting.sequences(
        {example.title: (example.inputs, example.targets)}, ("input", "target")
    )


DRAWERS: dict[str, Callable[[dict[str, list[Example]]], Figure]] = {
    "generalization": generalization,
    "predictions": inference,
    "example": example_of_sort,
}

if __name__ == "__main__":
    sys.exit(run_main(lambda: main(sys.argv[1:])))

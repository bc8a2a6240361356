"""Evaluate a trained run, or apply its model to user input.

    python eval.py --workdir=runs/nmt
    python eval.py --workdir=runs/nmt --split=test_long --beam=8 --json
    python eval.py --workdir=runs/nmt --translate="twenty-one"
    python eval.py --workdir=runs/g2p_0 --workdir=runs/g2p_1 --workdir=runs/g2p_2
    python eval.py --workdir=runs/luong --split=test_aligned --alignments=test.talp
    python eval.py --workdir=runs/ptrnet_tsp --instance=berlin52.tsp
    python eval.py --workdir=runs/captioning --caption=photo.jpg
    python eval.py --workdir=runs/nmt --view="twenty-one"
    python eval.py --workdir=runs/nmt --export=weights.safetensors

`--export` writes the weights of the checkpoint without the optimizer state. A directory with such a
`weights.safetensors`, and with `config.json` and the vocabulary or classifier of the run, can be
evaluated like the run.

`--view` writes `attention.html` to the run directory, a page on which to look at the attention
weights of the model for a sentence, problem instance or image, or without a value for the task's
examples. `--save_attention=FILE` writes them to an `.npz` file; see `tasks/attention_maps.py`.

`--translate` also accepts a file or pipe with one sentence per line, or `-` for standard input.
Config values of the run can be overridden, for example if the data has moved:
`--config.data.dir=DIR`.
"""

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from absl import app, flags
from ml_collections import ConfigDict, config_flags

import tasks
from tasks import attention_maps, viewer
from tasks.attention_kernel import replace_unavailable_kernel
from tasks.base import (
    ImageCaptioner,
    InstanceSolver,
    ShowsAttention,
    SupportsEnsemble,
    Translator,
    WordAligner,
)
from tasks.files import is_writable
from tasks.images import CAPTION_FIGURE, list_images
from tasks.text import read_bytes, read_sentences
from training import allocator, cli, mesh, run, weights, xla_flags
from training.checkpoints import Checkpoints, Restored
from training.console import Console
from training.errors import UserError, did_you_mean, is_disk_full
from training.files import atomic_write

WORKDIR = flags.DEFINE_multi_string(
    "workdir",
    [],
    "Run directory; several are an ensemble: the mean of the probabilities of translation models, "
    "or the shortest of the tours of several policies.",
)
SPLIT = flags.DEFINE_string("split", "test", "Split to evaluate.")
CHECKPOINT = flags.DEFINE_enum(
    "checkpoint",
    None,
    ["best", "latest", "average"],
    "Checkpoint to evaluate; 'average' by default if the run averages checkpoints, else 'best'.",
)
JSON = flags.DEFINE_bool("json", False, "Print one line of JSON instead of a table.")
TRANSLATE = flags.DEFINE_string(
    "translate", None, "Sentence, file of sentences, or - for standard input, to translate."
)
INSTANCE = flags.DEFINE_string(
    "instance", None, "File with a problem instance to solve; the solution is written next to it."
)
CAPTION = flags.DEFINE_string(
    "caption", None, "Image or directory of images to caption; a figure is written next to it."
)
VIEW = flags.DEFINE_string(
    "view",
    None,
    "Sentence, instance or image whose attention is written to attention.html; "
    "without a value, the attention of the task's examples.",
)
SAVE_ATTENTION = flags.DEFINE_string(
    "save_attention", None, "File (.npz) to which the attention weights are written."
)
EXPORT = flags.DEFINE_string("export", None, "File to which the weights are written.")
ALIGNMENTS = flags.DEFINE_string(
    "alignments",
    None,
    "File of hand alignments of --split, one pair per line: sure links i-j, possible links ipj. "
    "Prints the alignment error rate of the attention instead of the metrics.",
)
ALIGNMENTS_FROM_ONE = flags.DEFINE_bool(
    "alignments_from_one", False, "The indices of --alignments count from 1."
)
ALIGNMENTS_REVERSED = flags.DEFINE_bool(
    "alignments_reversed", False, "The target word comes first in the links of --alignments."
)
OVERWRITE = flags.DEFINE_bool("overwrite", False, "Replace an existing solution of --instance.")
flags.DEFINE_integer("beam", None, "Beam width.", lower_bound=1)
flags.DEFINE_float("length_penalty", None, "Exponent of the beam search's length penalty.")
ALIASES = {  # config keys that a flag overrides
    "beam": ("decode.width", "decode.dev_width", "search.width"),
    "length_penalty": ("decode.length_penalty",),
}


def main(_argv: list[str]) -> int:
    """Run the command that the flags select, and return the exit code."""
    allocator.configure_malloc()
    run.enable_compilation_cache()
    run.ignore_jax_flags()
    xla_flags.set_xla_flags()
    mesh.set_cpu_device_count(flags.FLAGS.config.cpu_devices)
    return cli.run_main(run_command)


def run_command() -> None:
    """Run the command that the flags select."""
    mesh.initialize_devices()
    config, workdir = flags.FLAGS.config, WORKDIR.value[0]
    replace_unavailable_kernel(config)
    if INSTANCE.value is not None:
        solve(config, workdir, INSTANCE.value)
    elif CAPTION.value is not None:
        caption(config, workdir, Path(CAPTION.value))
    elif TRANSLATE.value is not None:
        translate(config, workdir, TRANSLATE.value)
    elif VIEW.value is not None or SAVE_ATTENTION.value is not None:
        view(config, workdir, VIEW.value or "")
    elif EXPORT.value is not None:
        export(config, workdir, Path(EXPORT.value))
    else:
        evaluate(config, workdir, SPLIT.value)


def evaluate(config: ConfigDict, workdir: str, split: str) -> None:
    """Print the metrics of a split next to the paper's results."""
    task = build_task(config, workdir)
    splits = ("train", "dev", *task.splits)
    if split not in splits:
        raise UserError(
            f"Unknown split '{split}'; choose from {', '.join(splits)}."
            + did_you_mean(split, splits)
        )
    which, restored = restore(task, config, workdir)
    task, state = make_ensemble(task, restored.state)
    if ALIGNMENTS.value is None:
        metrics = task.evaluate(state, split)
    elif isinstance(task, WordAligner):
        form = {"from_one": ALIGNMENTS_FROM_ONE.value, "reverse": ALIGNMENTS_REVERSED.value}
        metrics = {"aer": task.alignment_error_rate(state, split, ALIGNMENTS.value, **form)}
    else:
        raise UserError(f"The task '{config.task}' does not support --alignments.")
    result = {
        "config": config.name,
        "checkpoint": which,
        "step": restored.record["step"],
        "overrides": overrides(),
        **({"ensemble": WORKDIR.value} if WORKDIR.value[1:] else {}),
        "metrics": {f"{split}/{name}": float(value) for name, value in metrics.items()},
        "paper": {name: x for name, x in config.paper.items() if name.startswith(f"{split}/")},
    }
    if JSON.value:
        print(json.dumps(result))
        return
    console = Console(config.train.steps, task.unit)
    changes = "".join(f", {key}={value}" for key, value in result["overrides"].items())
    rows = {"config": f"{config.name}{changes}", "checkpoint": f"{which}, step {result['step']:,}"}
    if "ensemble" in result:
        rows["ensemble"] = ", ".join(WORKDIR.value)
    console.header(rows | task.describe())
    console.table(result["metrics"], result["paper"])


def translate(config: ConfigDict, workdir: str, source: str) -> None:
    """Print the translation of a sentence, or of each line of a file or standard input."""
    sentences = read_sentences(source, "--translate")
    task = build_task(config, workdir)
    if not isinstance(task, Translator):
        raise UserError(f"The task '{config.task}' does not support --translate.")
    _, restored = restore(task, config, workdir)
    task, state = make_ensemble(task, restored.state)
    translations, truncated = task.translate(state, sentences)
    for translation in translations:
        print(translation)
    if truncated:
        print(
            f"note: {truncated} of {len(sentences)} sentences were truncated to the model's "
            "maximum length",
            file=sys.stderr,
        )


def solve(config: ConfigDict, workdir: str, file: str) -> None:
    """Solve the problem instance in a file, and write the solution to a file next to it."""
    task = build_task(config, workdir)
    if not isinstance(task, InstanceSolver):
        raise UserError(f"The task '{config.task}' does not support --instance.")
    if not os.path.isfile(file):
        raise UserError(f"The file {file} does not exist.")
    path = Path(file).with_suffix(task.solution_suffix)
    cannot_write = f"Cannot write the solution to {path}: copy or rename the instance file."
    if path == Path(file) or not is_writable(path):
        raise UserError(cannot_write)
    if os.path.lexists(path) and not OVERWRITE.value:
        raise UserError(f"{path} exists already: pass --overwrite to replace it.")
    content = read_bytes(Path(file))
    _, restored = restore(task, config, workdir)
    task, state = make_ensemble(task, restored.state)
    try:
        solution = task.solve_instance(state, content)
    except UserError as error:
        raise UserError(f"{file}: {error}") from error
    try:
        with atomic_write(path) as output:
            output.write(solution.text.encode())
    except OSError as error:
        if is_disk_full(error):
            raise
        raise UserError(cannot_write) from error
    print(f"{solution.message} Solution written to {path}.")


def caption(config: ConfigDict, workdir: str, images: Path) -> None:
    """Print the caption of an image or of each image in a directory, and write a figure."""
    task = build_task(config, workdir)
    if not isinstance(task, ImageCaptioner):
        raise UserError(f"The task '{config.task}' does not support --caption.")
    paths = list_images(images)
    figure_path = Path(f"{images.resolve()}{CAPTION_FIGURE}")  # also for the path '.'
    if not is_writable(figure_path):
        raise UserError(f"Cannot write the figure to {figure_path}: copy the images.")
    _, restored = restore(task, config, workdir)
    captions, figure = task.caption_files(restored.state, paths)
    for path, text in zip(paths, captions, strict=True):
        print(f"{path.name}: {text}" if images.is_dir() else text)
    if figure is not None:
        with atomic_write(figure_path) as file:
            figure.savefig(file, format="png", dpi=150)
        print(f"Attention at each word written to {figure_path}.", file=sys.stderr)


def view(config: ConfigDict, workdir: str, source: str) -> None:
    """Write the attention maps of the user's input, or of the task's examples if it is empty."""
    page = Path(workdir) / "attention.html" if VIEW.value is not None else None
    file = Path(SAVE_ATTENTION.value) if SAVE_ATTENTION.value is not None else None
    for path in filter(None, (page, file)):
        if not is_writable(path):
            raise UserError(f"Cannot write the attention maps to {path}: choose another place.")
    task = build_task(config, workdir)
    if not isinstance(task, ShowsAttention):
        raise UserError(f"The task '{config.task}' does not support --view.")
    inputs = read_inputs(task, config.task, source) if source else None
    _, restored = restore(task, config, workdir)
    maps = task.attention_maps(restored.state, inputs)
    if not maps:
        raise UserError(
            "There is no attention to show: choose a model with attention, and an input."
        )
    if page:
        viewer.write_page(maps, page, config.name)
    if file:
        attention_maps.save(maps, file)
    for path in filter(None, (page, file)):
        print(f"Attention maps written to {path}.")


def read_inputs(task: ShowsAttention, name: str, source: str) -> Any:
    """Read the input of `--view` as `attention_maps` of the task takes it.

    Raises:
        UserError: if the input cannot be read, or the task takes none.
    """
    if isinstance(task, Translator):
        return read_sentences(source, "--view")
    if isinstance(task, ImageCaptioner):
        return list_images(Path(source))
    if isinstance(task, InstanceSolver):
        if not os.path.isfile(source):
            raise UserError(f"The file {source} does not exist.")
        return read_bytes(Path(source))
    raise UserError(f"The task '{name}' has its own examples: pass --view without a value.")


def export(config: ConfigDict, workdir: str, path: Path) -> None:
    """Write the weights of the checkpoint to a safetensors file."""
    if not is_writable(path):
        raise UserError(f"Cannot write the weights to {path}: choose another file.")
    which, restored = restore(build_task(config, workdir), config, workdir)
    step = restored.record["step"]
    weights.write_weights(path, restored.state, step)
    print(f"Weights of the {which} checkpoint, step {step:,}, written to {path}.")


def build_task(config: ConfigDict, workdir: str) -> Any:
    """Build the task of a run that has a checkpoint or exported weights."""
    with Checkpoints.open_existing(workdir, config.train) as checkpoints:
        if not ((Path(workdir) / weights.FILE).exists() or (checkpoints and checkpoints.steps())):
            raise UserError(f"{workdir} has no checkpoint: train the run first.")
    return tasks.build(config, workdir)


def restore(task: Any, config: ConfigDict, workdir: str) -> tuple[str, Restored]:
    """Restore the checkpoint of `--checkpoint`, or exported weights if the run has no checkpoint.

    The arrays are sharded over all devices. With exported weights, the state has only the evaluated
    parameters and the step.
    """
    which = CHECKPOINT.value or ("average" if config.train.average > 1 else "best")
    abstract = mesh.evaluation_state(task.init)
    with explain_overrides(), Checkpoints.open_existing(workdir, config.train) as checkpoints:
        restored = checkpoints.restore(abstract, which) if checkpoints else None
        if restored is None and CHECKPOINT.value is None:
            return "weights", weights.restore(Path(workdir) / weights.FILE, abstract)
    if restored is None:
        raise UserError(f"{workdir} has no checkpoint but only weights: omit --checkpoint.")
    if restored.message:
        print(f"note: {restored.message}", file=sys.stderr)
    return which, restored


@contextlib.contextmanager
def explain_overrides() -> Iterator[None]:
    """Add the overridden config values to errors, because they may be the cause."""
    try:
        yield
    except UserError as error:
        if not overrides():
            raise
        changes = ", ".join(f"{key}={value}" for key, value in overrides().items())
        raise UserError(f"Cannot restore the run with {changes}: {error}") from error


def make_ensemble(task: Any, state: Any) -> tuple[Any, Any]:
    """Combine a task and its state with the other runs of `--workdir`, without overrides."""
    if not WORKDIR.value[1:]:
        return task, state
    if not isinstance(task, SupportsEnsemble):
        raise UserError("This task does not support several run directories: pass one --workdir.")
    others = []
    for workdir in WORKDIR.value[1:]:
        config = tasks.read_config(workdir)
        replace_unavailable_kernel(config)
        other = build_task(config, workdir)
        if not isinstance(other, type(task)):
            raise UserError(f"{workdir} is a run of another task, '{config.task}': leave it out.")
        others.append((other, restore(other, config, workdir)[1].state))
    return task.ensemble(state, others)


def overrides() -> dict[str, Any]:
    """Config values of the run that the command line overrides."""
    values = config_flags.get_override_values(flags.FLAGS["config"])
    return {key: x.to_dict() if isinstance(x, ConfigDict) else x for key, x in values.items()}


def define_config_flag(argv: list[str]) -> None:
    """Define `--config` from the run's `config.json`, and expand the flags in `ALIASES`."""
    argv[:] = [f"{word}=" if word in ("--view", "-view") else word for word in argv]
    flags.FLAGS(argv, known_only=True)
    if not all(WORKDIR.value or [""]):
        raise UserError("No run directory: pass --workdir=runs/NAME.")
    viewing = VIEW.value is not None or SAVE_ATTENTION.value is not None
    commands = [x.value is not None for x in (TRANSLATE, INSTANCE, CAPTION, EXPORT)]
    if sum(commands) + JSON.value + viewing > 1:
        raise UserError(
            "Pass only one of --translate, --instance, --caption, --view, --export and --json."
        )
    if len(WORKDIR.value) > 1 and (viewing or any(commands[2:])):
        raise UserError(
            "Pass several --workdir only with --split, --translate, --instance or --alignments."
        )
    for option, needed in (
        (ALIGNMENTS_FROM_ONE, ALIGNMENTS),
        (ALIGNMENTS_REVERSED, ALIGNMENTS),
        (OVERWRITE, INSTANCE),
    ):
        if option.value and needed.value is None:
            raise UserError(f"--{option.name} needs --{needed.name}.")
    if ALIGNMENTS.value is not None and (viewing or any(commands)):
        raise UserError("Pass --alignments only with --split and --json.")
    config = tasks.read_config(WORKDIR.value[0])
    known = dict(cli.config_items(config))
    for flag, candidates in ALIASES.items():
        if (value := flags.FLAGS[flag].value) is not None:
            if not (keys := [key for key in candidates if key in known]):
                raise UserError(f"The task '{config.task}' does not support --{flag}.")
            argv += [f"--config.{key}={value}" for key in keys]  # `argv` is parsed after this
    cli.check_keys(argv, config)
    config_flags.DEFINE_config_dict("config", config, sys_argv=argv)
    flags.FLAGS["workdir"].unparse()  # parsing `argv` again would append the same directories


if __name__ == "__main__":
    app.run(main, flags_parser=partial(cli.parse_flags, prepare=define_config_flag))

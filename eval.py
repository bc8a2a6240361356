"""Evaluates a run, translates or solves an instance with it, from its folder alone.

    python eval.py --workdir=runs/nmt
    python eval.py --workdir=runs/nmt --split=test_long --beam=8 --json
    python eval.py --workdir=runs/nmt --translate="twenty-one"
    python eval.py --workdir=runs/ptrnet_tsp --instance=berlin52.tsp

`--translate` also takes a file with a sentence a line, or `-` for standard input. Any value of the
run's config can be given anew, as where its data are now: `--config.data.dir=ELSEWHERE`.
"""

import contextlib
import json
import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

import jax
from absl import app, flags
from ml_collections import ConfigDict, config_flags

import tasks
from tasks.base import Solver, Translator
from tasks.translation.data.text_files import lines_of, read_bytes
from training import cli, mesh, run
from training.checkpoints import Checkpoints, Restored
from training.console import Console
from training.errors import UserError, did_you_mean

WORKDIR = flags.DEFINE_string("workdir", "", "Folder of the run.")
SPLIT = flags.DEFINE_string("split", "test", "What to evaluate on.")
CHECKPOINT = flags.DEFINE_enum(
    "checkpoint", None, ["best", "latest", "average"], "'average' if the run averages, or 'best'."
)
JSON = flags.DEFINE_bool("json", False, "Print one line of JSON instead of a table.")
TRANSLATE = flags.DEFINE_string("translate", None, "A sentence, a file of them, or - for stdin.")
INSTANCE = flags.DEFINE_string("instance", None, "A file with a question; answered beside it.")
flags.DEFINE_integer("beam", None, "Width of the beam.", lower_bound=1)
flags.DEFINE_float("length_penalty", None, "Exponent of the beam's length penalty.")
SHORT = {  # for which keys of a config
    "beam": ("decode.width", "decode.dev_width"),
    "length_penalty": ("decode.length_penalty",),
}


def main(argv: list[str]) -> int:
    """Evaluates or translates, and turns what a user can mend into one sentence."""
    del argv
    run.enable_compilation_cache()
    config, workdir, text = flags.FLAGS.config, WORKDIR.value, TRANSLATE.value
    mesh.set_cpu_device_count(config.cpu_devices)
    if (file := INSTANCE.value) is not None:
        return cli.exit_code(lambda: solve(config, workdir, file))
    if text is None:
        return cli.exit_code(lambda: evaluate(config, workdir, SPLIT.value))
    return cli.exit_code(lambda: translate(config, workdir, text))


def evaluate(config: ConfigDict, workdir: str, split: str) -> None:
    """Prints the metrics of a split beside the paper's."""
    task = open_task(config, workdir)
    splits = ("train", "dev", *task.splits)
    if split not in splits:
        raise UserError(
            f"There is no split '{split}', only {', '.join(splits)}." + did_you_mean(split, splits)
        )
    which, restored = restore(task, config, workdir)
    metrics = task.evaluate(restored.state, split).items()
    result = {
        "config": config.name,
        "checkpoint": which,
        "step": restored.record["step"],
        "changed": changes(),
        "metrics": {f"{split}/{name}": float(value) for name, value in metrics},
        "paper": {name: x for name, x in config.paper.items() if name.startswith(f"{split}/")},
    }
    if JSON.value:
        print(json.dumps(result))
        return
    console = Console(config.train.steps, task.unit)
    changed = "".join(f", {key}={value}" for key, value in result["changed"].items())
    checkpoint = f"{which}, step {result['step']}"
    rows = {"config": f"{config.name}{changed}", "checkpoint": checkpoint}
    console.header(rows | task.describe())
    console.table(result["metrics"], result["paper"])


def translate(config: ConfigDict, workdir: str, source: str) -> None:
    """Prints the translation of a sentence, or line by line of a file or of standard input."""
    if source == "-":
        sentences = lines_of(sys.stdin.buffer.read(), "standard input")
    elif os.path.isfile(source):
        sentences = lines_of(read_bytes(Path(source)), source)
    else:
        sentences = lines_of(os.fsencode(source), "--translate") if source else [source]
    task = open_task(config, workdir)
    if not isinstance(task, Translator):
        raise UserError(f"The task '{config.task}' does not translate.")
    _, restored = restore(task, config, workdir)
    translations, cut = task.translate(restored.state, sentences)
    for translation in translations:
        print(translation)
    if cut:
        print(
            f"note: of {len(sentences)} sentences {cut} were too long and were cut to the longest "
            "that the model takes",
            file=sys.stderr,
        )


def solve(config: ConfigDict, workdir: str, file: str) -> None:
    """Answers what a file asks, in a file beside it."""
    task = open_task(config, workdir)
    if not isinstance(task, Solver):
        raise UserError(f"The task '{config.task}' solves no instances.")
    if not os.path.isfile(file):
        raise UserError(f"There is no file {file}.")
    path = Path(file).with_suffix(task.solution_suffix)
    if path == Path(file) or path.is_dir() or not os.access(path.parent, os.W_OK):
        raise UserError(f"The answer would go to {path}, which cannot be: copy the file elsewhere.")
    text = "\n".join(lines_of(read_bytes(Path(file)), file))
    _, restored = restore(task, config, workdir)
    try:
        answer = task.solve_instance(restored.state, text)
    except UserError as error:
        raise UserError(f"{file}: {error}") from error
    path.write_text(answer.text)
    print(f"{answer.said} It is in {path}.")


def open_task(config: ConfigDict, workdir: str) -> Any:
    """The task of a run that has something to restore."""
    with contextlib.closing(Checkpoints.of(workdir, config.train)) as checkpoints:
        if not checkpoints.steps():
            raise UserError(f"{workdir} has no checkpoint yet: train it first.")
    return tasks.build(config, workdir)


def restore(task: Any, config: ConfigDict, workdir: str) -> tuple[str, Restored]:
    """Reads the checkpoint asked for, spread over whatever devices there are."""
    which = CHECKPOINT.value or ("average" if config.train.average > 1 else "best")
    devices = mesh.make_mesh(data=1, fsdp=-1, tensor=1)
    abstract = mesh.abstract(jax.eval_shape(task.init, jax.random.key(0)), devices)
    with contextlib.closing(Checkpoints.of(workdir, config.train)) as checkpoints:
        try:
            restored = checkpoints.restore(abstract, which)
        except UserError as error:
            if not (changed := changes()):
                raise
            said = ", ".join(f"{key}={value}" for key, value in changed.items())
            raise UserError(f"The run's weights cannot be read with {said}: {error}") from error
    assert restored is not None  # or `open_task` would not have opened it
    if restored.notice:
        print(f"note: {restored.notice}", file=sys.stderr)
    return which, restored


def changes() -> dict[str, Any]:
    """What the command line gives in the place of the run's own values."""
    return config_flags.get_override_values(flags.FLAGS["config"])


def read_run(argv: list[str]) -> None:
    """Makes the config of the run, which stands in its folder, known to the flags that follow."""
    flags.FLAGS(argv, known_only=True)
    if not WORKDIR.value:
        raise UserError("Say which run: --workdir=runs/NAME")
    if (TRANSLATE.value is not None) + (INSTANCE.value is not None) + JSON.value > 1:
        raise UserError(
            "Give only one of --translate, --instance and --json, which is for metrics."
        )
    config = run.read_config(WORKDIR.value)
    known = dict(cli.all_values(config))
    for flag, keys in SHORT.items():
        if (value := flags.FLAGS[flag].value) is not None:
            if not (own := [key for key in keys if key in known]):
                raise UserError(f"The task '{config.task}' has no beam for --{flag}.")
            # Spelt out, for `argv` is parsed anew after this.
            argv += [f"--config.{key}={value}" for key in own]
    cli.check_keys(argv, config)
    config_flags.DEFINE_config_dict("config", config, sys_argv=argv)


if __name__ == "__main__":
    app.run(main, flags_parser=partial(cli.parse_flags, prepare=read_run))

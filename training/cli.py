"""Command lines of the entry points: a wrong one gets a sentence, not a stack trace."""

import math
import os
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any

from absl import flags, logging
from ml_collections import ConfigDict
from ml_collections.config_flags import config_flags

from training.errors import Interrupted, UserError, did_you_mean, first_line, is_full

# Counts that 0 is good for.
MAY_BE_NONE = {
    "average",
    "block",
    "extra",
    "glimpses",
    "gpus",
    "heads",
    "held_out",
    "radius",
    "warmup",
}
SHARES = {"b1", "b2", "decay", "discount", "dropout", "expected", "label_smoothing", "momentum"}
# Beyond this a seed's key is that of a smaller one.
MOST = dict.fromkeys(SHARES, 1) | {"seed": 2**32 - 1}


def parse_flags(argv: list[str], prepare: Callable[[list[str]], Any] | None = None) -> list[str]:
    """For `app.run(main, flags_parser=parse_flags)`; exits with code 2 if the line is wrong.

    `prepare` sees the line first; unless given, `check_config_flags`. A '~/' that begins a value is
    the home, for which shells do not take it there.
    """
    home = os.path.expanduser("~/")
    argv[:] = [re.sub(r"^(--?[\w.]+=)~/", lambda flag: flag[1] + home, arg) for arg in argv]
    try:
        if not any(arg.startswith("--help") for arg in argv):
            (prepare or check_config_flags)(argv)
        rest = flags.FLAGS(argv)
        if stray := rest[1:]:
            raise UserError(
                f"'{stray[0]}' is no flag: write --name=value, with quotes around what has blanks."
            )
    except (UserError, flags.Error) as error:
        print(f"error: {str(error).splitlines()[0]}", file=sys.stderr)
        sys.exit(2)
    if flags.FLAGS["verbosity"].using_default_value:
        # absl makes it INFO; and of an error that matters libraries raise what they log.
        flags.FLAGS.verbosity = logging.FATAL  # type: ignore[assignment]
    return rest


def exit_code(work: Callable[[], int | None]) -> int:
    """Does the work of an entry point; what a user can mend ends in one sentence."""
    try:
        return work() or 0
    except Interrupted as stop:
        print(stop, file=sys.stderr)
        return 128 + stop.signal
    except KeyboardInterrupt:
        print("Stopped. What was saved is kept; the same command goes on.", file=sys.stderr)
        return 130
    except OSError as error:
        if not is_full(error):
            raise
        print(
            f"error: {error.filename or 'The disk'} cannot be written: {error.strerror}; make "
            "room, and the same command goes on.",
            file=sys.stderr,
        )
        return 2
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def read_config(argv: list[str]) -> ConfigDict:
    """The config that these flags of `train.py` ask for.

    Raises:
        UserError: if they are wrong.
    """
    check_config_flags(argv)
    values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", None, "", flag_values=values, sys_argv=argv)
    try:
        values(argv)
    except flags.Error as error:
        raise UserError(str(error).splitlines()[0]) from error
    return values.config


def check_config_flags(argv: list[str]) -> None:
    """Checks that `--config` names a config file, and each `--config.key` a key in it.

    Raises:
        UserError: if not, with the nearest valid key.
    """
    given = dict(given_flags(argv)).get("config", "")
    if not given:
        raise UserError("Say which run to do: --config=configs/NAME.py")
    check_keys(argv, load_config(given))


def load_config(given: str) -> ConfigDict:
    """What a config file, perhaps with ':smoke' after its name, says.

    Raises:
        UserError: if there is none, or it does not say it.
    """
    if not os.path.isfile(path := given.split(":")[0]):
        raise UserError(f"There is no config file {path}.")
    try:
        config = config_flags.ConfigFileFlagParser("config").parse(given)
    except Exception as error:  # a file is run, and may do whatever it likes
        wrapped = isinstance(error, ValueError | TypeError) and error.__context__
        raise UserError(f"{given}: {first_line(wrapped or error)}") from error
    if not isinstance(config, ConfigDict):
        raise UserError(f"{path}: it has no function get_config that returns a ConfigDict.")
    return config


def given_flags(argv: list[str]) -> Iterator[tuple[str, str]]:
    """Names and values as they are written: '--name=value', or '--name value'."""
    for arg, after in zip(argv, [*argv[1:], ""], strict=True):
        if flag := re.fullmatch(r"--?([^=]+)(?:=(.*))?", arg, re.DOTALL):
            yield flag[1], after if flag[2] is None else flag[2]


def check_keys(argv: list[str], config: ConfigDict, flag: str = "config") -> None:
    """Checks that each `--flag.key` is one of the config's, and numbers are of its kind.

    Raises:
        UserError: if not.
    """
    values = dict(all_values(config))
    for name, value in given_flags(argv):
        if not (given := re.fullmatch(rf"(?:no)?{flag}\.([^[]+)(\[.*)?", name)):
            continue
        key, part = given.groups()
        if key not in values:
            raise UserError(f"--{flag} has no key '{key}'." + did_you_mean(key, values))
        if part:
            raise UserError(f"Give all of {key}, as --{flag}.{key}='(3,5)', and not {part} alone.")
        check_number(key, values[key], value)


def check_number(key: str, default: Any, text: str) -> None:
    """Checks that a count stays a count, a share a share, and no amount falls below nothing.

    Args:
        key: of a config.
        default: what stands there; one that is no number, or below zero, sets no bounds.
        text: what is to take its place; if it is no number, that is for others to say.

    Raises:
        UserError: if it is out of bounds.
    """
    name = key.split(".")[-1]
    known = isinstance(default, int | float) and not isinstance(default, bool) and default >= 0
    if not known or key.startswith("mesh."):  # -1 is "all that remain" there
        return
    try:
        value = float(text)
    except ValueError:
        return
    counts = isinstance(default, int) and default > 0 and name not in MAY_BE_NONE
    least = int(counts)
    most = MOST.get(name, math.inf)
    if not (least <= value <= most and math.isfinite(value)):
        bounds = f"a number of at least {least}" if most == math.inf else f"from {least} to {most}"
        raise UserError(f"{key} must be {bounds}, not {text}.")


def all_values(config: ConfigDict, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """'train' and its section, 'train.steps' and its number, ..."""
    for name, value in config.items():
        yield f"{prefix}{name}", value
        if isinstance(value, ConfigDict):
            yield from all_values(value, f"{prefix}{name}.")

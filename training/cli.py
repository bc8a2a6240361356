"""Command lines of the entry points; mistakes are reported as one sentence."""

import math
import os
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any

from absl import flags, logging
from ml_collections import ConfigDict
from ml_collections.config_flags import config_flags

from training.errors import Interrupted, UserError, did_you_mean, first_line, is_disk_full

# Integers with a positive default for which 0 is valid too.
ZERO_ALLOWED = {
    "average",
    "extra",
    "glimpses",
    "gpus",
    "heads",
    "held_out",
    "max_shift",
    "warmup_steps",
}
FRACTIONS = {
    "b1",
    "b2",
    "decay",
    "discount",
    "dropout",
    "ema_decay",
    "expectation_probability",
    "gae_lambda",
    "label_smoothing",
    "momentum",
}
# A larger seed would give the same PRNG key as a smaller one.
UPPER_BOUNDS = dict.fromkeys(FRACTIONS, 1) | {"seed": 2**32 - 1}


def parse_flags(argv: list[str], prepare: Callable[[list[str]], Any] | None = None) -> list[str]:
    """Parse flags, for `app.run(main, flags_parser=parse_flags)`; exit with code 2 on mistakes.

    A '~/' at the start of a value is expanded, because shells do not expand it after '='.

    Args:
        argv: command line; modified in place.
        prepare: called with `argv` before parsing; `check_config_flags` by default.
    """
    home = os.path.expanduser("~/")
    argv[:] = [re.sub(r"^(--?[\w.]+=)~/", lambda flag: flag[1] + home, arg) for arg in argv]
    try:
        if not any(arg.startswith("--help") for arg in argv):
            (prepare or check_config_flags)(argv)
        remaining = flags.FLAGS(argv)
        if positional := remaining[1:]:
            raise UserError(
                f"Unexpected argument '{positional[0]}': write flags as --name=value, and quote "
                "values that contain spaces."
            )
    except (UserError, flags.Error) as error:
        print(f"error: {str(error).splitlines()[0]}", file=sys.stderr)
        sys.exit(2)
    if flags.FLAGS["verbosity"].using_default_value:
        # absl's default is INFO. Libraries also log the errors that they raise.
        flags.FLAGS.verbosity = logging.FATAL  # type: ignore[assignment]
    return remaining


def run_main(function: Callable[[], int | None]) -> int:
    """Run the main function of an entry point, print expected errors, and return the exit code."""
    try:
        return function() or 0
    except Interrupted as error:
        print(error, file=sys.stderr)
        return 128 + error.signal
    except KeyboardInterrupt:
        print("Interrupted; run the same command again to continue.", file=sys.stderr)
        return 130
    except OSError as error:
        if not is_disk_full(error):
            raise
        print(
            f"error: Cannot write {error.filename or 'to disk'}: {error.strerror}; free some disk "
            "space and run the same command again.",
            file=sys.stderr,
        )
        return 2
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def parse_config(argv: list[str]) -> ConfigDict:
    """Return the config that `train.py` would use for a command line.

    Raises:
        UserError: if the flags are invalid.
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
    """Check that `--config` names a config file and that every `--config.key` is valid.

    Raises:
        UserError: if a flag is invalid; the message names the closest valid key.
    """
    file = dict(iter_flags(argv)).get("config", "")
    if not file:
        raise UserError("No config: pass --config=configs/NAME.py.")
    check_keys(argv, load_config(file))


def load_config(file: str) -> ConfigDict:
    """Load a config file, with an optional variant: 'configs/transformer_nmt.py:smoke'.

    Raises:
        UserError: if the file does not exist or does not define a config.
    """
    if not os.path.isfile(path := file.split(":")[0]):
        raise UserError(f"Config file {path} does not exist.")
    try:
        config = config_flags.ConfigFileFlagParser("config").parse(file)
    except Exception as error:  # a config file can raise any error
        wrapped = isinstance(error, ValueError | TypeError) and error.__context__
        raise UserError(f"{file}: {first_line(wrapped or error)}") from error
    if not isinstance(config, ConfigDict):
        raise UserError(f"{path}: no function get_config that returns a ConfigDict.")
    return config


def iter_flags(argv: list[str]) -> Iterator[tuple[str, str]]:
    """Yield names and values of flags written as '--name=value' or '--name value'."""
    for arg, following in zip(argv, [*argv[1:], ""], strict=True):
        if flag := re.fullmatch(r"--?([^=]+)(?:=(.*))?", arg, re.DOTALL):
            yield flag[1], following if flag[2] is None else flag[2]


def check_keys(argv: list[str], config: ConfigDict, flag: str = "config") -> None:
    """Check that every `--flag.key` exists in the config, and that numbers are within bounds.

    Raises:
        UserError: if a key or a number is invalid.
    """
    values = dict(config_items(config))
    for name, value in iter_flags(argv):
        if not (match := re.fullmatch(rf"(?:no)?{flag}\.([^[]+)(\[.*)?", name)):
            continue
        key, index = match.groups()
        if key not in values:
            raise UserError(f"--{flag} has no key '{key}'." + did_you_mean(key, values))
        if index:
            raise UserError(
                f"Cannot set {key}{index} alone: give the whole value, --{flag}.{key}='(3,5)'."
            )
        check_number(key, values[key], value)


def check_number(key: str, default: Any, text: str) -> None:
    """Check that a number is finite and within the bounds implied by its key and default.

    Args:
        key: config key.
        default: value in the config; a negative number or another type implies no bounds.
        text: value on the command line; not checked if it is not a number.

    Raises:
        UserError: if the number is out of bounds.
    """
    name = key.split(".")[-1]
    bounded = isinstance(default, int | float) and not isinstance(default, bool) and default >= 0
    if not bounded or key.startswith("mesh."):  # a mesh axis may be -1
        return
    try:
        value = float(text)
    except ValueError:
        return
    positive = isinstance(default, int) and default > 0 and name not in ZERO_ALLOWED
    least, most = int(positive), UPPER_BOUNDS.get(name, math.inf)
    if not (least <= value <= most and math.isfinite(value)):
        bounds = f"at least {least}" if most == math.inf else f"between {least} and {most}"
        raise UserError(f"{key} must be {bounds}, not {text}.")


def config_items(config: ConfigDict, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield sections and values with their full keys: ('train', ...), ('train.steps', 1000), ..."""
    for name, value in config.items():
        yield f"{prefix}{name}", value
        if isinstance(value, ConfigDict):
            yield from config_items(value, f"{prefix}{name}.")

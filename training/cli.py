"""Command lines of the entry points; mistakes are reported as one sentence."""

import ast
import errno
import math
import os
import re
import reprlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

from absl import flags, logging
from ml_collections import ConfigDict
from ml_collections.config_flags import config_flags

from training.errors import (
    Interrupted,
    UserError,
    did_you_mean,
    first_line,
    is_disk_full,
    is_inaccessible,
)
from training.streams import configure_streams, exit_on_closed_output

# A file has the name of a directory, or the reverse.
OCCUPIED = {errno.EEXIST, errno.EISDIR, errno.ENOTDIR}
# Integers with a positive default for which 0 is valid too.
ZERO_ALLOWED = {
    "extra",
    "glimpses",
    "gpus",
    "heads",
    "held_out",
    "intra_class_samples",
    "max_shift",
    "max_training_length",
    "sample",
    "warmup_steps",
}
FRACTIONS = {
    "baseline_decay",
    "discount",
    "expectation_probability",
    "gae_lambda",
    "label_smoothing",
}
# At 1, dropout and Adam's bias correction divide by zero, moving averages never change, and
# momentum never decays.
BELOW_ONE = {"b1", "b2", "decay", "dropout", "ema_decay", "momentum", "rho"}
# A larger seed would give the same PRNG key as a smaller one.
UPPER_BOUNDS = {
    **dict.fromkeys(FRACTIONS, 1),
    **dict.fromkeys(BELOW_ONE, math.nextafter(1, 0)),
    "seed": 2**32 - 1,
}

# Command line for the argument `sys_argv` of ml_collections' flags: `parse_flags` sets it, because
# ml_collections itself expands flag files when a flag is defined, before errors can be reported.
ARGV: list[str] = []
LARGEST_INTEGER = 2**31 - 1  # of the 32-bit integers on devices
EMPTY_ALLOWED = {"lengths"}  # tuples that may be empty although the default is not
# Sections whose keys depend on the value of another key, so that they can be set as a whole.
REPLACEABLE = {"baseline", "labels", "options", "packing", "search"}


class IntegerParser(flags.IntegerParser):
    """Parser of integers that also accepts an integral number in another notation, '1e3'."""

    def convert(self, argument: str | int) -> int:
        try:
            return super().convert(argument)
        except ValueError:
            number = float(argument)
            if not number.is_integer():
                raise
            return int(number)


config_flags.register_flag_parser_for_type(int, IntegerParser())


def parse_flags(argv: list[str], prepare: Callable[[list[str]], Any] | None = None) -> list[str]:
    """Parse flags, for `app.run(main, flags_parser=parse_flags)`; exit with code 2 on mistakes.

    A '~/' at the start of a value is expanded, because shells do not expand it after '='.

    Args:
        argv: command line; modified in place.
        prepare: called with `argv` before parsing; `check_config_flags` by default.
    """
    configure_streams()
    home = os.path.expanduser("~/")
    with exit_on_closed_output():
        try:
            argv[1:] = expand_flagfiles(argv[1:])
            argv[:] = [re.sub(r"^(--?[\w.]+=)~/", lambda flag: flag[1] + home, arg) for arg in argv]
            if not any(arg.startswith("--help") for arg in argv):
                (prepare or check_config_flags)(argv)
            ARGV[:] = argv
            remaining = flags.FLAGS(argv)
            if positional := remaining[1:]:
                raise UserError(
                    f"Unexpected argument '{positional[0]}': write flags as --name=value, and "
                    "quote values that contain spaces."
                )
        except (UserError, flags.Error) as error:
            print(f"error: {str(error).splitlines()[0]}", file=sys.stderr)
            sys.exit(2)
    if flags.FLAGS["verbosity"].using_default_value:
        # absl's default is INFO. Libraries also log the errors that they raise.
        flags.FLAGS.verbosity = logging.FATAL  # type: ignore[assignment]
    return remaining


def expand_flagfiles(args: list[str]) -> list[str]:
    """Replace each `--flagfile=FILE` by the flags in the file, one per line.

    Raises:
        UserError: if a file cannot be read.
    """
    try:
        return flags.FLAGS.read_flags_from_files(args)
    except (ValueError, flags.Error) as error:
        reason = first_line(error).removeprefix("ERROR:: ")
        raise UserError(f"{reason}: check --flagfile.") from error


def run_main(function: Callable[[], int | None]) -> int:
    """Run the main function of an entry point, print expected errors, and return the exit code."""
    with exit_on_closed_output():
        return _run(function)


def _run(function: Callable[[], int | None]) -> int:
    try:
        code = function() or 0
        sys.stdout.flush()
        return code
    except Interrupted as error:
        print(error, file=sys.stderr)
        return 128 + error.signal
    except KeyboardInterrupt:
        print("Interrupted; run the same command again to continue.", file=sys.stderr)
        return 130
    except OSError as error:
        if is_disk_full(error):
            action, fix = f"write {error.filename or 'to disk'}", "free some disk space"
        elif error.errno in OCCUPIED and error.filename:
            action, fix = f"write {error.filename}", "rename or remove it"
        elif is_inaccessible(error) and error.filename:
            action, fix = f"access {error.filename}", "restore access to it"
        else:
            raise
        print(
            f"error: Cannot {action}: {error.strerror}; {fix} and run the same command again.",
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
    files = [value for name, value in iter_flags(argv) if name == "config"]
    if not any(files):
        raise UserError("No config: pass --config=configs/NAME.py.")
    if len(files) > 1:
        raise UserError(f"--config is given {len(files)} times: pass one config file.")
    check_keys(argv, load_config(files[0]))


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
    """Check that every `--flag.key` exists in the config, and that its value is valid.

    Raises:
        UserError: if a key or a value is invalid.
    """
    defaults = dict(config_items(config))
    given = set()
    for name, text in iter_flags(argv):
        if not (match := re.fullmatch(rf"(no)?{flag}\.([^[]+)(\[.*)?", name)):
            continue
        negated, key, index = match.groups()
        if key not in defaults:
            raise UserError(f"--{flag} has no key {key!r}." + did_you_mean(key, defaults))
        if not all(part.isidentifier() for part in key.split(".")):
            raise UserError(f"--{name} cannot be set by a flag: change the config file.")
        if index:
            raise UserError(
                f"Cannot set {key}{index} alone: give the whole value, --{flag}.{key}='(3,5)'."
            )
        given.add(key)
        if section := next((section for section in given if key.startswith(f"{section}.")), ""):
            raise UserError(f"--{flag}.{section} contains {key}: set only one of the two.")
        default = defaults[key]
        if not (negated or isinstance(default, bool)):  # absl rejects invalid booleans
            check_value(key, default, parse_value(key, default, text))


def parse_value(key: str, default: Any, text: str) -> Any:
    """Parse the value of a config key on the command line.

    Args:
        key: config key.
        default: value in the config, which determines the type.
        text: value on the command line.

    Raises:
        UserError: if the text is not a number, but the default is one.
    """
    if isinstance(default, str):
        return text
    if isinstance(default, int | float):
        number = IntegerParser() if isinstance(default, int) else flags.FloatParser()
        try:
            return number.convert(text)
        except ValueError as error:
            kind = "an integer" if isinstance(default, int) else "a number"
            raise UserError(f"{key} must be {kind}, not {reprlib.repr(text)}.") from error
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text  # a string without quotes


def check_value(key: str, default: Any, value: Any) -> None:
    """Check the type of a value, and that numbers are finite and within bounds.

    Args:
        key: config key.
        default: value in the config, which determines the type and the bounds.
        value: value for the key.

    Raises:
        UserError: if the value is invalid.
    """
    if isinstance(default, ConfigDict):
        _check_section(key, default, value)
    elif isinstance(default, tuple):
        values = value if isinstance(value, tuple | list) else (value,)
        if default and not values and key not in EMPTY_ALLOWED:
            raise UserError(f"{key} must not be empty.")
        for item in values:  # the configs have no empty tuples of numbers
            check_value(f"each value of {key}", min(default, default=""), item)
    elif isinstance(default, bool | str):
        if not isinstance(value, type(default)):
            kind = "True or False" if isinstance(default, bool) else "text"
            raise UserError(f"{key} must be {kind}, not {reprlib.repr(value)}.")
    elif isinstance(default, int | float):
        check_number(key, default, value)


def _check_section(key: str, default: ConfigDict, value: Any) -> None:
    """Check the value of a whole section, which only sections in `REPLACEABLE` accept."""
    if key.split(".")[-1] not in REPLACEABLE:
        name = next((f", such as {key}.{name}" for name in default if name.isidentifier()), "")
        raise UserError(f"{key} is a section: set single keys{name}, or change the config file.")
    if not isinstance(value, dict) or not all(str(name).isidentifier() for name in value):
        raise UserError(
            f"{key} is a section: write it as '{{\"key\": value}}', not {reprlib.repr(value)}."
        )
    for name, item in value.items():
        if name in default:
            check_value(f"{key}.{name}", default[name], item)


def check_number(key: str, default: float, value: Any) -> None:
    """Check that a number is finite and within the bounds implied by its key and default.

    Args:
        key: config key.
        default: value in the config; a negative number implies no bounds.
        value: value for the key.

    Raises:
        UserError: if the value is not a finite number within the bounds.
    """
    kind = (int, "an integer") if isinstance(default, int) else (int | float, "a number")
    if not isinstance(value, kind[0]) or isinstance(value, bool):
        raise UserError(f"{key} must be {kind[1]}, not {reprlib.repr(value)}.")
    name = key.split(".")[-1]
    bounded = default >= 0 and not key.startswith("mesh.")  # a mesh axis may be -1
    positive = isinstance(default, int) and default > 0 and name not in ZERO_ALLOWED
    largest = LARGEST_INTEGER if isinstance(default, int) else sys.float_info.max
    least = int(positive) if bounded else -largest
    most = UPPER_BOUNDS.get(name, largest) if bounded else largest
    if not least <= value <= most:  # also if it is NaN
        bounds = f"at least {least}"
        if name in BELOW_ONE:
            bounds = f"at least {least} and less than 1"
        elif name in UPPER_BOUNDS:
            bounds = f"between {least} and {most}"
        elif value > most:
            bounds = f"at most {most}" if isinstance(default, int) else "finite"
        raise UserError(f"{key} must be {bounds}, not {reprlib.repr(value)}.")


def config_items(config: ConfigDict, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield sections and values with their full keys: ('train', ...), ('train.steps', 1000), ..."""
    for name, value in config.items():
        yield f"{prefix}{name}", value
        if isinstance(value, ConfigDict):
            yield from config_items(value, f"{prefix}{name}.")

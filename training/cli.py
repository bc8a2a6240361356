"""Command lines of the entry points: a wrong one gets a sentence, not a stack trace."""

import os
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any

from absl import flags, logging
from ml_collections import ConfigDict
from ml_collections.config_flags import config_flags

from training.errors import Interrupted, UserError, did_you_mean


def parse_flags(argv: list[str], prepare: Callable[[list[str]], Any] | None = None) -> list[str]:
    """For `app.run(main, flags_parser=parse_flags)`; exits with code 2 if the line is wrong.

    `prepare` sees the line first; unless given, `check_config_flags`.
    """
    try:
        if not any(arg.startswith("--help") for arg in argv):
            (prepare or check_config_flags)(argv)
        rest = flags.FLAGS(argv)
    except (UserError, flags.Error) as error:
        print(f"error: {str(error).splitlines()[0]}", file=sys.stderr)
        sys.exit(2)
    if flags.FLAGS["verbosity"].using_default_value:  # which absl makes INFO; libraries say much
        flags.FLAGS.verbosity = logging.ERROR  # type: ignore[assignment]
    return rest


def exit_code(work: Callable[[], int | None]) -> int:
    """Does the work of an entry point; what a user can mend ends in one sentence."""
    try:
        return work() or 0
    except Interrupted as stop:
        print(stop, file=sys.stderr)
        return 128 + stop.signal
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
    given = re.search(r"(?:^| )--?config[= ]([^ ]+)", " ".join(argv))
    if given is None:
        raise UserError("Say which run to do: --config=configs/NAME.py")
    if not os.path.isfile(path := given[1].split(":")[0]):
        raise UserError(f"There is no config file {path}.")
    try:
        config = config_flags.ConfigFileFlagParser("config").parse(given[1])
    except ValueError as error:  # `get_config` does not know its argument
        raise UserError(f"{given[1]}: {error.__context__}") from error
    check_keys(argv, config)


def check_keys(argv: list[str], config: ConfigDict) -> None:
    """Raises a `UserError` if a `--config.key` is not one of the config's."""
    keys = list(all_keys(config))
    for arg in argv:
        key = re.match(r"--?(?:no)?config\.([^=[]+)", arg)
        if key and key[1] not in keys:
            raise UserError(f"The config has no key '{key[1]}'." + did_you_mean(key[1], keys))


def all_keys(config: ConfigDict, prefix: str = "") -> Iterator[str]:
    """'train', 'train.steps', ..."""
    for name, value in config.items():
        yield f"{prefix}{name}"
        if isinstance(value, ConfigDict):
            yield from all_keys(value, f"{prefix}{name}.")

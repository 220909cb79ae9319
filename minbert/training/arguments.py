"""From a command line, or from the settings.json of a stopped run, to checked settings."""

import argparse
import json
from dataclasses import Field, fields
from pathlib import Path
from typing import Any

from minbert.command_line import Parser
from minbert.errors import InputError
from minbert.files import parse_json, read_text
from minbert.training.complete_run import close_complete_run
from minbert.training.setting_fields import flag_of, value_type
from minbert.training.settings import NEW_SETTINGS, CommonSettings


def parse_settings(cls: type[CommonSettings], argv: list[str], description: str) -> CommonSettings:
    """Parse `argv` into checked settings of the class `cls`. With --resume they are those of the stopped run.

    Raises InputError.
    """
    values = vars(make_parser(cls, description).parse_args(argv))
    if "resume" in values:
        return load_settings(cls, **values)
    for f in fields(cls):
        if f.metadata["many"] and f.name in values:
            values[f.name] = tuple(values[f.name])
    return cls(**values).check()


def make_parser(cls: type[CommonSettings], description: str) -> Parser:
    """One flag for each field. A flag that is not given leaves no value, so that the field's default holds."""
    parser = Parser(description=description)
    parser.add_argument("--options", action="store_true", default=argparse.SUPPRESS, help="list the options and exit")
    for f in sorted(fields(cls), key=lambda f: f.name not in cls.__annotations__):  # the program's own flags first
        says_default = f.default is None or f.metadata["many"]  # then the help text names the default itself
        keywords = {
            "dest": f.name,
            "help": f.metadata["help"] + ("" if says_default else f" (default {f.default})"),
            "default": argparse.SUPPRESS,
        }
        if f.type is bool:
            keywords["action"] = argparse.BooleanOptionalAction
        else:
            keywords |= {"type": value_type(f), "choices": f.metadata["choices"] or None}
        if f.metadata["many"]:
            keywords |= {"nargs": "+", "action": "extend"}
        parser.add_argument(flag_of(f), **keywords)
    return parser


def load_settings(
    cls: type[CommonSettings], resume: str, device: str | None = None, **other_flags: Any
) -> CommonSettings:
    """Read the settings of the run in the folder `resume`.

    Raises InputError if other flags are given, or there is no such run, or the run is complete.
    """
    folder = Path(resume)
    if other_flags:
        names = {f.name: flag_of(f) for f in fields(cls)}
        first = min(names[name] for name in other_flags)
        raise InputError(f"--resume goes on with the run's own settings: {first} cannot be changed")
    if (folder / "metrics.json").exists():
        raise InputError(f"--resume {folder}: {close_complete_run(folder)}")
    try:
        return read_settings(cls, folder, out=resume, resume=resume, **{"device": device} if device else {})
    except FileNotFoundError:
        missing = folder / "settings.json"
        raise InputError(f"--resume {folder}: there is no run, {missing} does not exist") from None
    except OSError as error:
        missing = folder / "settings.json"
        raise InputError(f"--resume {folder}: {missing} cannot be read: {error.strerror}") from None


def read_settings(cls: type[CommonSettings], folder: Path, **changes: Any) -> CommonSettings:
    """The settings of the run in a folder, from its settings.json; `changes` replace some of them.

    Raises InputError if the file does not hold the settings of such a run, and OSError if it cannot be read.
    """
    path = folder / "settings.json"
    try:
        saved = parse_json(read_text(path))
        # The device is saved as cuda:0; its number follows from the process.
        saved |= {"device": saved["device"].split(":")[0]} | changes
        saved = new_settings(cls) | saved
        values = {f.name: saved_value(f, saved[f.name]) for f in fields(cls)}
    except KeyError as error:
        if error.args[0] in ("task", "tasks") and saved.keys() & {"task", "tasks"}:
            program = "train.py" if cls.multitask else "multitask.py"
            raise InputError(f"{program} made this run: python {program} --resume {folder}") from None
        raise InputError(
            f"{path} lacks {error}: another program or another version of minbert wrote it; start a new run"
        ) from None
    except InputError:
        raise
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{path} does not hold the settings of a run: {error}") from None
    return cls(**values).check()


def new_settings(cls: type[CommonSettings]) -> dict[str, Any]:
    """The settings that an older run lacks, with the values that its settings.json would have."""
    return json.loads(json.dumps({f.name: f.default for f in fields(cls) if f.name in NEW_SETTINGS}))


def saved_value(f: Field, value: Any) -> Any:
    """Convert a value of settings.json to the type of its field. Raises ValueError."""
    many, choices, kind = f.metadata["many"], f.metadata["choices"], value_type(f)
    values = value if many and isinstance(value, list) else [value]
    if choices and value is not None and not all(item in choices for item in values):
        raise ValueError(f"{f.name} is {value!r}")
    if many and isinstance(value, list) and all(isinstance(item, kind) for item in value):
        return tuple(value)
    is_unset = value is None and f.default is None
    if not many and (is_unset or type(value) is kind or (kind is float and type(value) is int)):
        return value
    raise ValueError(f"{f.name} is {value!r}")

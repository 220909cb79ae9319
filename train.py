"""Fine-tune one BERT on one task.

python train.py --option smart                                        # on the embedded sample
python train.py --option smart --task rte --model MODEL --data DATA
python train.py --options                                             # lists the methods for --option
"""

import os
import sys

import sample
from minbert.command_line import escape_unknown_characters
from minbert.config import BertConfig
from minbert.data.task_file import is_task_file
from minbert.errors import InputError, Interrupted, TrainingError, first_line
from minbert.families import Family
from minbert.hub import find_model
from minbert.training.arguments import parse_settings
from minbert.training.run import fine_tune
from minbert.training.runtime import is_out_of_memory, setup
from minbert.training.settings import CommonSettings, Settings
from minbert.training.signals import write_line
from regularizers import build, describe
from regularizers.base import Method


def main(
    argv: list[str], program: str = "train.py", cls: type[CommonSettings] = Settings, description: str = __doc__
) -> int:
    """Run the program, here or for multitask.py. Returns the exit status."""
    escape_unknown_characters()
    try:
        if "--options" in argv:
            print(describe())
            return 0
        settings = parse_settings(cls, argv, description)
        method = build(settings.option, settings.method_settings)
        if not settings.resume:
            settings = fill_in_defaults(settings, method)
        with setup(settings.device, settings.precision, method.fp32) as runtime:
            fine_tune(settings, method, runtime, note=note(settings))
        return 0
    except KeyboardInterrupt:
        write_line(f"{program}: interrupted", sys.stderr)
        return 130
    except Interrupted as stop:
        write_line(f"{program}: {stop}", sys.stderr)
        return stop.status
    except (InputError, TrainingError, OSError, RuntimeError) as error:
        message = one_line(error)
        # All of torchrun's processes meet the same mistake, and the first one reports it. Other errors can happen to
        # one process alone.
        if os.environ.get("RANK", "0") == "0" or not isinstance(error, InputError | TrainingError):
            write_line(f"{program}: {message}", sys.stderr)
        return 1 if isinstance(error, TrainingError) else 2


def fill_in_defaults(settings: CommonSettings, method: Method) -> CommonSettings:
    """Fill in the defaults. The embedded sample stands in for a missing --model (with its recipe) or --data."""
    recipe = sample.RECIPE if settings.model is None else family_of(settings.model).recipe
    of_method = {} if method.lr is None else {"lr": method.lr}  # wins over the recipe's
    return settings.resolve(**recipe | of_method, model=str(sample.MODEL), data=str(sample.DATA))


def note(settings: CommonSettings) -> str:
    """What to say about the embedded sample. A task of the user's own reads no --data."""
    reads_data = not all(is_task_file(name) for name in settings.names)
    return sample.note(settings.model, settings.data if reads_data else "")


def family_of(model: str) -> Family:
    """The family of a model folder or hub name. Raises InputError if it cannot be read."""
    return BertConfig.from_json(find_model(model) / "config.json").family


def one_line(error: Exception) -> str:
    """The message for an error that the user can correct. Another RuntimeError is a bug, and keeps its traceback."""
    if is_out_of_memory(error):
        return "out of memory: lower --batch-size or --max-length, or raise --accumulate"
    if "compiler" in str(error).lower() and type(error).__module__.startswith("torch._"):
        return f"--compile needs a compiler that torch can call: {first_line(error)}"
    if isinstance(error, InputError | TrainingError | OSError):
        return str(error)
    raise error


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

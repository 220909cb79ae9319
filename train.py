"""Fine-tune one BERT on one task.

    python train.py --option smart                                        # on the embedded sample
    python train.py --option smart --task rte --model MODEL --data DATA
    python train.py --options

The last lists what --option can be.
"""

import os
import sys

import torch

import sample
from minbert.errors import InputError, Interrupted, TrainingError
from minbert.finetuning import fine_tune
from minbert.runtime import setup
from minbert.settings import CommonSettings, Settings, parse
from regularizers import build, describe
from regularizers.base import Method


def main(argv: list[str], program="train.py", kind: type[CommonSettings] = Settings, description=__doc__) -> int:
    """Run the program, here or for multitask.py; returns the exit status."""
    try:
        if "--options" in argv:
            print(describe())
            return 0
        settings = parse(kind, argv, description)
        method = build(settings.option, settings.set)
        if not settings.resume:
            settings = with_sample(settings, method)
        with setup(settings.device, settings.precision, method.fp32) as runtime:
            fine_tune(settings, method, runtime, note=sample.note(settings.model, settings.data))
        return 0
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        return 130
    except Interrupted as stop:
        print(f"{program}: {stop}", file=sys.stderr)
        return stop.status
    except (InputError, TrainingError, OSError, RuntimeError) as error:
        text = explain(error)
        # Of torchrun's processes the first speaks for all, unless the mistake may be another's own.
        if os.environ.get("RANK", "0") == "0" or not isinstance(error, InputError | TrainingError):
            print(f"{program}: {text}", file=sys.stderr)
        return 1 if isinstance(error, TrainingError) else 2


def with_sample(settings: CommonSettings, method: Method) -> CommonSettings:
    """Resolve the settings; the embedded sample stands in for a model or data that are not named."""
    own = {"lr": method.lr}
    if settings.model is None:
        own = {**sample.RECIPE, **{name: value for name, value in own.items() if value is not None}}
    return settings.resolve(**own, model=str(sample.MODEL), data=str(sample.DATA))


def explain(error: Exception) -> str:
    """One line; a RuntimeError that says nothing of memory is a bug, and keeps its traceback."""
    if isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error):
        return "out of memory: lower --batch-size or --max-length, or raise --accumulate"
    if isinstance(error, InputError | TrainingError | OSError):
        return str(error)
    raise error


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

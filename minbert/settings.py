"""Settings: every choice of a run in one frozen dataclass, and its command line. One class for each program."""

import argparse
import difflib
import json
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import get_args

from minbert.errors import InputError
from minbert.sampling import SAMPLINGS
from minbert.schedules import SCHEDULES
from minbert.tasks import PAIRS, TASKS, Task, choose


def setting(default, help: str, choices=None, many: bool = False):
    """One field: its default, the text of --help, the values it may take, and whether it takes several."""
    return field(default=default, metadata={"help": help, "choices": choices, "many": many})


@dataclass(frozen=True)
class CommonSettings:
    """What all programs have. None stands for a default that depends on other settings: see `resolve`."""

    data: str = setting(
        None, "folder that holds the tasks' files: RTE/, ids-sst-train.csv, ... (default: the sample's)"
    )
    model: str = setting(None, "folder with config.json and model.safetensors, or a hub name (default: the sample's)")
    option: str = setting("finetune", "method, or several joined with +; --options lists them")
    set: tuple[str, ...] = setting((), "hyper-parameters of the methods: smart.eps=1e-3 ...", many=True)
    epochs: int = setting(None, "each as many steps as the training data have batches (default 3)")
    batch_size: int = setting(32, "examples in one optimizer step, over all processes and micro-batches")
    lr: float = setting(None, "peak learning rate (default 2e-5; an option may bring its own)")
    schedule: str = setting("linear", "how the learning rate moves", tuple(SCHEDULES))
    warmup: float = setting(None, "share of all steps in which the learning rate rises (default 0.1)")
    weight_decay: float = setting(0.01, "decoupled decay of all weights but biases and LayerNorms")
    clip: float = setting(1.0, "largest global norm of a step's gradient; 0 turns clipping off")
    bias_correction: bool = setting(True, "Adam's bias correction")
    dropout: float = setting(None, "dropout everywhere: encoder, attention, head (default: config.json's)")
    max_length: int = setting(256, "longest input in tokens; longer ones are cut")
    pairs: str = setting(
        "together", "a pair of sentences is one input, or each is encoded alone and their vectors are compared", PAIRS
    )
    max_steps: int = setting(None, "optimizer steps, instead of --epochs")
    train_size: int = setting(None, "train on that many examples of each task, the same ones for every seed")
    accumulate: int = setting(1, "micro-batches that make up one step, to save memory")
    seed: int = setting(0, "seed of dropout and noise, and of the two below")
    init_seed: int = setting(None, "seed of the head's first weights (default: --seed)")
    data_seed: int = setting(None, "seed of the order of the examples (default: --seed)")
    precision: str = setting(
        "auto", "auto is bf16 where the hardware has it, else fp32", ("auto", "fp32", "bf16", "fp16")
    )
    device: str = setting("auto", "where to compute", ("auto", "cpu", "cuda", "mps"))
    compile: bool = setting(False, "compile the layers with torch.compile")
    evaluate: tuple[str, ...] = setting(
        ("dev",), "splits to score after each epoch (default dev)", ("dev", "train"), many=True
    )
    keep: str = setting("last", "whose weights are kept: the last epoch's, or the best one's on dev", ("last", "best"))
    predict: str = setting("dev", "write predictions of the dev set, or of dev and test set", ("dev", "test"))
    checkpoint_steps: int = setting(None, "steps from one checkpoint to the next, beside those at each epoch's end")
    checkpoint_minutes: float = setting(10.0, "minutes after which a checkpoint is written, too")
    save: str = setting(
        "model", "none keeps scores and predictions only; all keeps the checkpoint when the run is complete, too",
        ("all", "model", "none"),
    )  # fmt: skip
    out: str = setting(None, "run folder (default runs/<task>-<option>-seed<seed>-<time>)")
    resume: str = setting(None, "run folder of a stopped run, to go on with its own settings")

    def check(self) -> "CommonSettings":
        """Raise InputError for a value out of range or two settings that contradict each other."""
        for name in ("epochs", "batch_size", "max_steps", "train_size", "accumulate", "checkpoint_steps"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise InputError(f"{flag(name)} must be at least 1, not {getattr(self, name)}")
        for name in ("lr", "weight_decay", "clip", "checkpoint_minutes"):
            if getattr(self, name) is not None and not 0 <= getattr(self, name) < float("inf"):
                raise InputError(f"{flag(name)} must be a number from 0 up, not {getattr(self, name)}")
        for name in ("seed", "init_seed", "data_seed"):
            if getattr(self, name) is not None and not 0 <= getattr(self, name) < 2**63:
                raise InputError(f"{flag(name)} must lie from 0 up to 2**63, not {getattr(self, name)}")
        for name in ("warmup", "dropout"):
            if getattr(self, name) is not None and not 0 <= getattr(self, name) < 1:
                raise InputError(f"{flag(name)} must lie from 0 up to 1, not {getattr(self, name)}")
        if self.max_length < 5:
            raise InputError(f"--max-length must be at least 5, not {self.max_length}")
        if self.warmup is not None and self.schedule == "constant":
            raise InputError("--warmup goes with --schedule linear or slanted, not with constant")
        if self.epochs is not None and self.max_steps is not None:
            raise InputError("--epochs and --max-steps both say how long to train: give one")
        if "dev" not in self.evaluate:
            raise InputError("--evaluate train comes beside dev: --evaluate dev train")
        if self.accumulate > self.batch_size:
            raise InputError(f"--accumulate {self.accumulate}: a batch of {self.batch_size} has no so many pieces")
        for name in ("model", "data", "out"):
            if getattr(self, name) == "":
                raise InputError(f"{flag(name)} is empty")
            if not is_utf8(getattr(self, name) or ""):  # settings.json could not hold it
                raise InputError(f"{flag(name)} is not UTF-8")
        return self

    def resolve(self, **defaults) -> "CommonSettings":
        """Fill in what the user left open: from `defaults` (an option's lr, the sample's), else the usual value."""
        usual = {
            "lr": 2e-5,
            "epochs": 3 if self.max_steps is None else None,
            "warmup": 0.0 if self.schedule == "constant" else 0.1,
            "init_seed": self.seed,
            "data_seed": self.seed,
        }
        defaults = usual | {name: value for name, value in defaults.items() if value is not None}
        if self.max_steps is not None:
            defaults["epochs"] = None
        return replace(self, **{name: value for name, value in defaults.items() if getattr(self, name) is None})

    def changes(self) -> str:
        """What differs from the defaults, for the first lines of a run."""
        usual = type(self)().resolve()
        # The first are said anyway; precision and device are no longer "auto" in a resumed run.
        skipped = "task tasks data model option out resume seed init_seed data_seed precision device".split()
        pairs = [(f.name, getattr(self, f.name), getattr(usual, f.name)) for f in fields(self) if f.name not in skipped]
        changed = [(name, value) for name, value, default in pairs if value != default and value is not None]
        return " ".join(spelled(name, value) for name, value in changed)

    def config_changes(self) -> dict:
        """The fields of config.json that these settings replace: one dropout for encoder, attention and head."""
        if self.dropout is None:
            return {}
        return {"hidden_dropout_prob": self.dropout, "attention_probs_dropout_prob": self.dropout}

    def chosen_tasks(self) -> list[Task]:
        return choose(self.names, self.pairs)

    @property
    def title(self) -> str:
        """rte; sst5+quora+sts"""
        return "+".join(self.names)


@dataclass(frozen=True)
class Settings(CommonSettings):
    """Of train.py."""

    task: str = setting("rte", "the task to fine-tune on", tuple(TASKS))

    multitask = False  # these three are no settings here
    sampling = SAMPLINGS[0]
    weights = {}

    @property
    def names(self) -> tuple[str, ...]:
        return (self.task,)


@dataclass(frozen=True)
class MultitaskSettings(CommonSettings):
    """Of multitask.py."""

    tasks: tuple[str, ...] = setting(
        ("sst5", "quora", "sts"), "the tasks to train together (default sst5 quora sts)", tuple(TASKS), many=True
    )
    sampling: str = setting(SAMPLINGS[0], "how the steps are shared out among the tasks", SAMPLINGS)
    task_weights: tuple[str, ...] = setting((), "factors of the tasks' losses: quora=0.5 ... (default 1)", many=True)

    multitask = True  # no setting

    @property
    def names(self) -> tuple[str, ...]:
        return self.tasks

    @property
    def weights(self) -> dict[str, float]:
        return read_weights(self.task_weights, self.tasks)

    def check(self) -> "MultitaskSettings":
        for name in self.tasks:
            if self.tasks.count(name) > 1:
                raise InputError(f"--tasks names {name} twice")
        read_weights(self.task_weights, self.tasks)
        return super().check()


def read_weights(items: tuple[str, ...], tasks: tuple[str, ...]) -> dict[str, float]:
    """("quora=0.5",) -> {"quora": 0.5}. Raises InputError."""
    weights = {}
    for item in items:
        name, _, value = item.partition("=")
        if name not in tasks:
            raise InputError(f"--task-weights {item}: {name!r} is none of the tasks {', '.join(tasks)}")
        if name in weights:
            raise InputError(f"--task-weights gives {name} two weights")
        try:
            weights[name] = float(value)
        except ValueError:
            weights[name] = float("nan")
        if not 0 < weights[name] < float("inf"):
            raise InputError(f"--task-weights {item}: a weight is a number above 0, as in {name}=0.5")
    return weights


def is_utf8(text: str) -> bool:
    return text.encode(errors="replace") == text.encode(errors="surrogateescape")


def spelled(name: str, value) -> str:
    """As on the command line: --no-compile, --set a b"""
    if isinstance(value, bool):
        return flag(name if value else f"no_{name}")
    return f"{flag(name)} {' '.join(value) if isinstance(value, tuple) else value}"


def flag(name: str) -> str:
    return "--" + name.replace("_", "-")


class Parser(argparse.ArgumentParser):
    """An error is one line, as everywhere else."""

    def error(self, message):
        raise InputError(message)


def parse(cls, argv: list[str], description: str):
    """argv -> a checked settings object of the dataclass `cls`; that of an earlier run for --resume.

    Raises InputError.
    """
    parser = Parser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("--options", action="store_true", default=argparse.SUPPRESS, help="list the options and exit")
    for f in sorted(fields(cls), key=lambda f: f.name not in cls.__annotations__):  # the program's own flags first
        usual = "" if f.default is None or f.metadata["many"] else f" (default {f.default})"
        more = {"help": f.metadata["help"] + usual, "default": argparse.SUPPRESS}
        if f.type is bool:
            parser.add_argument(flag(f.name), action=argparse.BooleanOptionalAction, **more)
            continue
        kind = get_args(f.type)[0] if f.metadata["many"] else f.type
        more |= {"nargs": "+", "action": "extend"} if f.metadata["many"] else {}
        parser.add_argument(flag(f.name), type=kind, choices=f.metadata["choices"], **more)
    known, unknown = parser.parse_known_args(argv)
    if unknown:
        close = difflib.get_close_matches(unknown[0], [flag(f.name) for f in fields(cls)], n=1)
        raise InputError(f"unrecognized arguments: {' '.join(unknown)}" + "".join(f"; is it {name}?" for name in close))
    values = vars(known)
    if "resume" in values:
        return resumed(cls, **values)
    many = {f.name: tuple(values[f.name]) for f in fields(cls) if f.metadata["many"] and f.name in values}
    return cls(**values | many).check()


def resumed(cls, resume: str, device: str | None = None, **others):
    """The settings of the run in the folder `resume`. Raises InputError: other flags, no such run, a complete one."""
    folder, path = Path(resume), Path(resume) / "settings.json"
    if others:
        raise InputError(f"--resume goes on with the run's own settings: {flag(min(others))} cannot be changed")
    if (folder / "metrics.json").exists():
        raise InputError(f"--resume {folder}: the run has ended, its metrics.json is there")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        values |= {"out": resume, "resume": resume, "device": device or values["device"].split(":")[0]}  # cuda:0
        kept = {f.name: restore(f, values[f.name]) for f in fields(cls)}
    except FileNotFoundError:
        raise InputError(f"--resume {folder}: there is no run, {path} does not exist") from None
    except OSError as error:
        raise InputError(f"--resume {folder}: {path} cannot be read: {error.strerror}") from None
    except KeyError as error:
        raise InputError(f"{path} lacks {error}: it is of another program or version") from None
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is not the settings of a run: {error}") from None
    return cls(**kept).check()


def restore(f, value):
    """A value of settings.json as the field `f` wants it. Raises ValueError."""
    choices = f.metadata["choices"]
    if choices and value is not None and not set(value if f.metadata["many"] else [value]) <= set(choices):
        raise ValueError(f"{f.name} is {value!r}")
    if f.metadata["many"]:
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return tuple(value)
    elif value == f.default or type(value) is f.type or (f.type is float and type(value) is int):
        return value
    raise ValueError(f"{f.name} is {value!r}")

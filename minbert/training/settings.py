"""Settings: every choice of a run in one frozen dataclass, one class for each program."""

from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import ClassVar

from minbert.command_line import DEVICES, flag, is_utf8
from minbert.data.sampling import SAMPLINGS
from minbert.data.task_file import choose_tasks
from minbert.data.tasks import PAIRS, TASKS
from minbert.errors import InputError
from minbert.schedules import SCHEDULES
from minbert.task import Task
from minbert.training.setting_fields import check_range, format_flag, setting

# The settings.json of an older run lacks these. The run was made with their defaults.
NEW_SETTINGS = ("record", "record_every", "dev_size")


@dataclass(frozen=True)
class CommonSettings:
    """The settings that all programs share. None stands for a default that depends on other settings: see `resolve`."""

    data: str | None = setting(
        None, "folder with the tasks' files: RTE/, ids-sst-train.csv, ... (default: the sample's)"
    )
    model: str | None = setting(
        None, "folder with config.json and model.safetensors, or a hub name (default: the sample's)"
    )
    option: str = setting("finetune", "the method, or several joined with +; --options lists them")
    method_settings: tuple[str, ...] = setting(
        (), "hyper-parameters of the methods: smart.eps=1e-3 ...", many=True, flag="--set"
    )
    epochs: int | None = setting(None, "number of passes over the training data (default 3)", minimum=1)
    batch_size: int = setting(32, "examples in one optimizer step, over all processes and micro-batches", minimum=1)
    lr: float | None = setting(None, "peak learning rate (default 2e-5; some options have their own)", minimum=0)
    schedule: str = setting("linear", "how the learning rate changes over the run", tuple(SCHEDULES))
    warmup: float | None = setting(
        None, "share of the steps in which the learning rate rises (default 0.1)", minimum=0, below=1
    )
    weight_decay: float | None = setting(
        None,
        "decoupled weight decay of all parameters except biases and LayerNorms (default 0.01; RoBERTa 0.1, ALBERT 0)",
        minimum=0,
    )
    clip: float | None = setting(
        None, "largest global norm of a step's gradient; 0 turns clipping off (default 1; RoBERTa 0)", minimum=0
    )
    adam_betas: tuple[float, ...] | None = setting(
        None, "Adam's two decay rates of moments (default 0.9 0.999; RoBERTa 0.9 0.98)", minimum=0, below=1, many=True
    )
    # With 0, Adam divides 0 by 0 where a gradient is 0: in the embedding of a token that no batch has had yet.
    adam_eps: float = setting(1e-6, "Adam's epsilon, above 0", minimum=1e-30)
    bias_correction: bool = setting(True, "Adam's bias correction")
    dropout: float | None = setting(
        None, "dropout of encoder, attention and head (default: that of config.json)", minimum=0, below=1
    )
    max_length: int = setting(256, "longest input in tokens; longer texts are cut", minimum=5)
    pairs: str = setting(
        "together", "encode a pair of sentences as one input, or separately and compare their vectors", PAIRS
    )
    max_steps: int | None = setting(None, "number of optimizer steps, instead of --epochs", minimum=1)
    train_size: int | None = setting(
        None, "train on this many examples of each task, the same ones for every seed", minimum=1
    )
    dev_size: int | None = setting(
        None, "score and predict this many examples of each dev set, the same ones for every seed", minimum=1
    )
    accumulate: int = setting(1, "micro-batches in one step; more of them need less memory", minimum=1)
    seed: int = setting(0, "seed of dropout and noise, and default of the next two seeds", minimum=0, below=2**63)
    init_seed: int | None = setting(None, "seed of the head's first weights (default: --seed)", minimum=0, below=2**63)
    data_seed: int | None = setting(None, "seed of the order of the examples (default: --seed)", minimum=0, below=2**63)
    precision: str = setting(
        "auto", "precision of matrix products; auto is bf16 if the hardware has it, else fp16 on a GPU that has it, "
        "else fp32; some options need fp32",
        ("auto", "fp32", "bf16", "fp16"),
    )  # fmt: skip
    device: str = setting("auto", "where to compute", DEVICES)
    compile: bool = setting(False, "compile the layers with torch.compile")
    evaluate: tuple[str, ...] = setting(
        ("dev",), "splits to score after each epoch (default dev)", ("dev", "train"), many=True
    )
    record: tuple[str, ...] = setting(
        (),
        "gradients: also write the norm of each parameter's gradient, of the task and of each penalty apart",
        ("gradients",),
        many=True,
    )
    record_every: int | None = setting(None, "steps from one record to the next (default 25)", minimum=1)
    keep: str = setting(
        "last", "which weights to keep: the last epoch's, or those of the best dev score", ("last", "best")
    )
    predict: str = setting("dev", "write predictions of the dev set, or of dev and test set", ("dev", "test"))
    checkpoint_steps: int | None = setting(
        None,
        "also write a checkpoint after this many steps, not only after each epoch; with several processes at the next "
        "step that is a multiple of ten",
        minimum=1,
    )
    checkpoint_minutes: float = setting(10.0, "also write a checkpoint after this many minutes", minimum=0)
    save: str = setting(
        "model", "none: only scores and predictions; all: the last checkpoints stay when the run is complete",
        ("all", "model", "none"),
    )  # fmt: skip
    out: str | None = setting(None, "run folder (default runs/<task>-<option>-seed<seed>-<time>)")
    resume: str | None = setting(None, "run folder of a stopped run, to go on with its own settings")

    multitask: ClassVar[bool]  # whether the program trains several tasks, with a table of scores for each

    @property
    def names(self) -> tuple[str, ...]:
        """The tasks as the user gave them: names of the table, or paths of task files."""
        raise NotImplementedError

    @property
    def loss_weights(self) -> dict[str, float]:
        """The factors of the tasks' losses; 1 for a task that is not there."""
        return {}

    def check(self) -> "CommonSettings":
        """Raise InputError for a value out of range or two settings that contradict each other."""
        for f in fields(self):
            check_range(f, getattr(self, f.name))
        if self.warmup and self.schedule == "constant":  # the saved settings of such a run have a warm-up of 0
            raise InputError("--warmup has no effect with --schedule constant: use linear or slanted")
        if self.epochs is not None and self.max_steps is not None:
            raise InputError("--epochs and --max-steps both set the length of the run: give one of them")
        if self.record_every is not None and not self.record:
            raise InputError("--record-every has no effect without --record")
        if self.record and self.compile:
            raise InputError("--record gradients does not work with --compile: leave one of them out")
        if self.compile and self.max_length % 8:
            raise InputError(f"--compile needs a --max-length that is a multiple of 8, not {self.max_length}")
        if self.adam_betas is not None and len(self.adam_betas) != 2:
            raise InputError(f"--adam-betas takes two numbers, not {len(self.adam_betas)}")
        if "dev" not in self.evaluate:
            raise InputError("--evaluate must include dev: --evaluate dev train")
        if self.accumulate > self.batch_size:
            raise InputError(
                f"--accumulate {self.accumulate}: cannot split a batch of {self.batch_size} into "
                f"{self.accumulate} micro-batches"
            )
        names = self.task_names  # raises InputError for an unknown task and for a mistake in a task file
        for name in names:
            if names.count(name) > 1:
                raise InputError(f"--tasks names {name} twice")
        for name in ("model", "data", "out"):
            if getattr(self, name) == "":
                raise InputError(f"{flag(name)} is empty")
            if not is_utf8(getattr(self, name) or ""):  # settings.json could not hold it
                raise InputError(f"{flag(name)} is not UTF-8")
            if "\0" in (getattr(self, name) or ""):  # no path can
                raise InputError(f"{flag(name)} holds a NUL character")
        return self

    def resolve(self, **defaults) -> "CommonSettings":
        """Replace None: by `defaults` (an option's lr, the sample's recipe), else by the usual value."""
        usual = {
            "lr": 2e-5,
            "epochs": 3 if self.max_steps is None else None,
            "warmup": 0.0 if self.schedule == "constant" else 0.1,
            "weight_decay": 0.01,
            "clip": 1.0,
            "adam_betas": (0.9, 0.999),
            "record_every": 25 if self.record else None,
            "init_seed": self.seed,
            "data_seed": self.seed,
        }
        defaults = usual | {name: value for name, value in defaults.items() if value is not None}
        if self.max_steps is not None:
            defaults["epochs"] = None
        return replace(self, **{name: value for name, value in defaults.items() if getattr(self, name) is None})

    def describe_changes(self, lr: float | None = None) -> str:
        """The flags whose values are not the defaults, for the first lines of a run.

        `lr` is the option's own default of the learning rate, if it has one.
        """
        defaults = type(self)()
        # The usual values of other settings depend on these two.
        usual = replace(defaults, record=self.record, schedule=self.schedule).resolve(lr=lr)
        usual = replace(usual, record=defaults.record, schedule=defaults.schedule)
        # Other lines name task, option, device and folder. Model, data and seeds differ in each study. In a resumed run
        # precision and device are no longer "auto".
        skipped = "task tasks data model option out resume seed init_seed data_seed precision device".split()
        changed = []
        for f in fields(self):
            value = getattr(self, f.name)
            if f.name not in skipped and value is not None and value != getattr(usual, f.name):
                changed.append(format_flag(f, value))
        return " ".join(changed)

    def config_changes(self) -> dict[str, float]:
        """The fields of config.json that these settings replace: --dropout sets all of them."""
        if self.dropout is None:
            return {}
        names = ("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout")
        return dict.fromkeys(names, self.dropout)

    @cached_property
    def chosen_tasks(self) -> tuple[Task, ...]:
        """The tasks to train on. The user may change or move a task file during a run, so it is read once."""
        return tuple(choose_tasks(self.names, self.pairs))

    @property
    def task_names(self) -> tuple[str, ...]:
        """The tasks' own names: reviews for reviews.toml."""
        return tuple(task.name for task in self.chosen_tasks)

    @property
    def title(self) -> str:
        """The names of the tasks: rte; sst5+quora+sts"""
        return "+".join(self.task_names)


@dataclass(frozen=True)
class Settings(CommonSettings):
    """The settings of train.py."""

    task: str = setting("rte", f"the task to fine-tune on: {', '.join(TASKS)}, or your own task file NAME.toml")

    multitask = False

    @property
    def names(self) -> tuple[str, ...]:
        return (self.task,)


@dataclass(frozen=True)
class MultitaskSettings(CommonSettings):
    """The settings of multitask.py."""

    tasks: tuple[str, ...] = setting(
        ("sst5", "quora", "sts"),
        f"the tasks to train together (default sst5 quora sts): {', '.join(TASKS)}, or your own task files NAME.toml",
        many=True,
    )
    sampling: str = setting(SAMPLINGS[0], "how the steps are divided among the tasks", SAMPLINGS)
    task_weights: tuple[str, ...] = setting((), "factors of the tasks' losses: quora=0.5 ... (default 1)", many=True)

    multitask = True

    @property
    def names(self) -> tuple[str, ...]:
        return self.tasks

    @property
    def loss_weights(self) -> dict[str, float]:
        return parse_loss_weights(self.task_weights, self.task_names)

    def check(self) -> "MultitaskSettings":
        """Raise InputError for a value out of range or two settings that contradict each other."""
        super().check()
        parse_loss_weights(self.task_weights, self.task_names)
        return self


def parse_loss_weights(items: tuple[str, ...], tasks: tuple[str, ...]) -> dict[str, float]:
    """("quora=0.5",) -> {"quora": 0.5}. Raises InputError."""
    weights = {}
    for item in items:
        name, _, value = item.partition("=")
        if name not in tasks:
            raise InputError(f"--task-weights {item}: {name!r} is not one of the tasks {', '.join(tasks)}")
        if name in weights:
            raise InputError(f"--task-weights gives {name} two weights")
        try:
            weights[name] = float(value)
        except ValueError:
            weights[name] = float("nan")
        if not 0 < weights[name] < float("inf"):
            raise InputError(f"--task-weights {item}: a weight must be a number above 0, as in {name}=0.5")
    return weights

"""The run folder: settings, log, metrics, model, predictions. It appears when training starts and is never overwritten.

Only the main process writes. On the other ranks every method does nothing.
"""

import contextlib
import json
import os
import platform
import shlex
import shutil
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from torch import nn

import minbert
from minbert.config import BertConfig
from minbert.data.dataset import Dataset
from minbert.data.predictions import write_predictions
from minbert.data.task_file import SUFFIX
from minbert.errors import InputError, TrainingError, reason
from minbert.files import make_folders, rename, sync, write_json
from minbert.tokenizer import Tokenizer
from minbert.training.checkpoint import Checkpoints, step_of
from minbert.training.fingerprint import Fingerprint, changed
from minbert.training.runtime import Runtime
from minbert.training.settings import CommonSettings
from minbert.training.step_lines import StepLines
from minbert.weights import save_model, save_trained

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

# The fields of metrics.json, of the run and of each task, that are unknown if a loss was not finite.
UNKNOWN_OF_RUN = (
    "score metrics majority kept_epoch best_epoch epochs steps train_loss seconds examples_per_second "
    "tokens_per_second history"
).split()
UNKNOWN_OF_TASK = "score metrics majority failed failure steps train_loss".split()


def check_out_folder(settings: CommonSettings) -> None:
    """Raise InputError if --out exists. Asked before anything is read, since reading can take minutes."""
    if settings.out and not settings.resume and Path(settings.out).exists():
        raise InputError(f"--out {settings.out} exists, and a run never overwrites another: delete it or name another")


class RunFolder:
    """A new run folder, or with --resume the existing one. A context: it notes how the run ended."""

    def __init__(self, settings: CommonSettings, runtime: Runtime, config: BertConfig, fingerprint: Fingerprint):
        """Raises InputError if the folder cannot be made, if another process works on it, or if the run to resume is
        not the same run any more."""
        self.settings, self.runtime, self.active = settings, runtime, runtime.is_main
        self.path = Path(settings.out) if settings.out else default_path(settings)
        self.changes = ""  # how the machine of a resumed run differs from before
        if self.active and settings.resume:
            self.reopen(fingerprint)
        elif self.active:
            self.create(config, fingerprint)
        self.lock_file = self.lock() if self.active else None
        resumed = self.active and bool(settings.resume)
        self.log, self.gradients = (StepLines(self.path / f"{name}.jsonl", resumed) for name in ("log", "gradients"))
        self.checkpoints = None
        if settings.save != "none":
            every = settings.checkpoint_steps, settings.checkpoint_minutes
            self.checkpoints = Checkpoints(self.path / "checkpoint", *every, active=self.active)

    def create(self, config: BertConfig, fingerprint: Fingerprint) -> None:
        """Make the folder. It appears with its settings.json in it, or not at all."""
        values = asdict(self.settings) | {"config": asdict(config)} | environment(self.runtime)
        values["fingerprint"] = fingerprint
        tasks = self.settings.chosen_tasks()
        # A run can be resumed from another working folder, so paths are made absolute.
        values |= {name: absolute(values[name]) for name in ("model", "data", "task") if name in values}
        values |= {"tasks": tuple(map(absolute, values["tasks"]))} if "tasks" in values else {}
        files = {absolute(name): task.name + SUFFIX for name, task in zip(self.settings.names, tasks) if task.own}
        values["task_files"] = files  # copies in the run folder, from which the model's labels are read later
        for _ in range(100):
            temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}")
            new_parents = [parent for parent in temporary.parents if not parent.exists()]
            try:
                make_folders(temporary.parent)
                temporary.mkdir()
                for path, name in files.items():
                    shutil.copyfile(path, temporary / name)
                    sync(temporary / name)
                write_json(temporary / "settings.json", values | {"out": str(self.path)})
                rename(temporary, self.path)
                return
            except OSError as error:
                shutil.rmtree(temporary, ignore_errors=True)
                if self.settings.out or not self.path.exists():
                    for parent in new_parents:
                        with contextlib.suppress(OSError):
                            parent.rmdir()
                    raise InputError(f"--out {self.path} cannot be made: {error.strerror}") from None
                self.path = default_path(self.settings)  # another run of the same second took the name
        raise InputError(f"--out {self.path} exists: name another")

    def reopen(self, fingerprint: Fingerprint) -> None:
        """Check that this is the same run. Note how this machine differs: the last bits may differ then, too."""
        before = json.loads((self.path / "settings.json").read_text(encoding="utf-8"))
        if different := changed(before.get("fingerprint", {}), fingerprint):
            raise InputError(
                f"--resume {self.path}: {', '.join(different)} changed since the run began. "
                "Undo the change, or start a new run"
            )
        now = environment(self.runtime)
        self.changes = ", ".join(
            f"{name} {now[name]} instead of {before.get(name)}" for name in now if before.get(name) != now[name]
        )

    def lock(self) -> Any:
        """Let only one process work on a run. The system gives the lock back, however the process ends.

        Files under temporary names, which a killed process left, are removed. Raises InputError if another process
        has the lock.
        """
        lock_file = (self.path / "settings.json").open("r+b")  # "+": NFS locks only files that are open for writing
        if not lock_within(lock_file, seconds=1.0):
            raise InputError(f"{self.path}: another process is at work on this run")
        for path in self.path.rglob(".*"):
            if path.is_file():
                path.unlink()
        return lock_file

    def __enter__(self) -> "RunFolder":
        return self

    def __exit__(self, kind, error, trace) -> None:
        if self.active:
            self.note_end(kind, error)
            self.lock_file.close()

    def note_end(self, kind: type[BaseException] | None, error: BaseException | None) -> None:
        """The run has ended, with an error of that kind or None. Write a failure down, or say how to go on."""
        is_mistake_of_a_new_run = kind is InputError and not self.settings.resume
        if is_mistake_of_a_new_run and os.listdir(self.path) == ["settings.json"]:
            shutil.rmtree(self.path)  # a mistake that showed before the first step leaves nothing behind
        elif kind is TrainingError:
            self.write_failure(str(error))
        elif kind is not None and not (self.path / "metrics.json").exists():
            print(f"stopped; {self.resume_hint()}", flush=True)

    def resume_hint(self) -> str:
        """The command that goes on with this run."""
        if self.checkpoints is None:
            return "with --save none there is no checkpoint to go on from"
        processes = self.runtime.world_size
        program = "python" if processes == 1 else f"torchrun --nproc-per-node {processes}"
        command = f"{program} {sys.argv[0]} --resume {shlex.quote(str(self.path))}"
        unusable = self.checkpoints.unusable
        kept = [path for path in self.checkpoints.files() if path not in (*self.checkpoints.damaged, unusable)]
        start = f"after step {step_of(kept[-1])}" if kept else "from the beginning"
        first = f"delete {unusable}, and then, " if unusable else ""
        return f"{first}to go on {start}: {command}"

    def append_log(self, row: dict) -> None:
        """Append one row to log.jsonl."""
        if self.active:
            self.log.append(row)

    def append_gradients(self, row: dict) -> None:
        """Append one row to gradients.jsonl."""
        if self.active:
            self.gradients.append(row)

    def save_model(self, model: nn.Module, tokenizer: Tokenizer) -> None:
        """Write model/, whole or not at all, and trained.safetensors if only some parameters train."""
        if not self.active or self.settings.save == "none":
            return
        temporary, final = self.path / ".model", self.path / "model"
        shutil.rmtree(temporary, ignore_errors=True)  # from a run that was killed at this point
        try:
            save_model(model, temporary)
            tokenizer.save(temporary)
            shutil.rmtree(final, ignore_errors=True)
            rename(temporary, final)
            if not all(p.requires_grad for p in model.parameters()):
                save_trained(model, self.path / "trained.safetensors")
        except (OSError, SafetensorError) as error:
            raise InputError(f"{final} cannot be written: {reason(error)}") from None
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def save_predictions(self, dataset: Dataset, split: str, logits: np.ndarray, frozen: bool) -> None:
        """Write the predictions of one split in the official form of its task."""
        if self.active:
            write_predictions(self.path, dataset, split, logits, frozen, self.settings.multitask)

    def write_metrics(self, values: dict) -> None:
        """Write metrics.json. With it the run is complete, and its checkpoints go unless --save all keeps them."""
        if self.active:
            write_json(self.path / "metrics.json", self.description() | values)
            if self.checkpoints is not None and self.settings.save != "all":
                self.checkpoints.remove()

    def write_failure(self, text: str) -> None:
        """Write the metrics.json of a run whose loss was not finite."""
        values = dict.fromkeys(UNKNOWN_OF_RUN) | {"failed": True, "failure": text}
        if self.settings.multitask:
            values["tasks"] = {name: dict.fromkeys(UNKNOWN_OF_TASK) for name in self.settings.task_names}
        write_json(self.path / "metrics.json", self.description() | values)

    def description(self) -> dict:
        """The first fields of metrics.json."""
        s = self.settings
        return {"task": s.title, "model": s.model, "option": s.option, "seed": s.seed, "split": "dev", "keep": s.keep}


def lock_within(file: Any, seconds: float) -> bool:
    """Lock a file for this process alone. False if another process keeps it. (is_locked has it for a moment.)"""
    end = time.monotonic() + seconds
    while fcntl is not None:  # Windows has no such locks
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() > end:
                return False
            time.sleep(0.02)
    return True


def is_locked(folder: Path) -> bool:
    """Whether a process works on the run in this folder. Always False on Windows."""
    if fcntl is None or not (folder / "settings.json").exists():
        return False
    with (folder / "settings.json").open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def default_path(settings: CommonSettings) -> Path:
    """runs/<task>-<option>-seed<seed>-<time>, with a number at the end if that name is taken."""
    name = f"{settings.title}-{settings.option}-seed{settings.seed}-{time.strftime('%Y%m%d-%H%M%S')}"
    paths = [Path("runs") / name, *(Path("runs") / f"{name}-{i}" for i in range(2, 100))]
    return next((path for path in paths if not path.exists()), paths[0])


def absolute(name: str) -> str:
    """The absolute path of a folder; a model hub name as it is."""
    return str(Path(name).absolute()) if Path(name).exists() else name


def environment(runtime: Runtime) -> dict[str, Any]:
    """The machine and the versions, for settings.json."""
    on_gpu = runtime.device.type == "cuda"
    return {
        "precision": runtime.precision,
        "device": str(runtime.device),
        "device_name": torch.cuda.get_device_name(runtime.device) if on_gpu else platform.machine(),
        "processes": runtime.world_size,
        "threads": torch.get_num_threads(),
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "minbert": minbert.__version__},
    }

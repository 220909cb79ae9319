"""The run folder: settings, log, metrics, model, predictions. It appears when training starts and is never overwritten.

Only the main process writes. On the other ranks every method does nothing.
"""

import contextlib
import json
import platform
import re
import shlex
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from torch import nn

import minbert
from minbert.config import BertConfig
from minbert.data.dataset import Dataset
from minbert.data.predictions import KNOWN_FILES, own_path, write_predictions
from minbert.data.task_file import SUFFIX, choose_tasks, is_task_file
from minbert.errors import InputError, TrainingError, reason
from minbert.files import make_folders, rename, sync, temporary_path, write_json
from minbert.tokenizer import Tokenizer
from minbert.training.checkpoint import NEW, Checkpoints, step_of
from minbert.training.complete_run import close_complete_run
from minbert.training.fingerprint import Fingerprint, changed
from minbert.training.lock import NAME as LOCK
from minbert.training.lock import FolderLock
from minbert.training.log import LOG_EVERY
from minbert.training.runtime import Runtime
from minbert.training.settings import CommonSettings
from minbert.training.signals import write_line
from minbert.training.step_lines import StepLines
from minbert.weights import save_model, save_trained

# The fields of metrics.json, of the run and of each task, that are unknown if a loss was not finite.
UNKNOWN_OF_RUN = (
    "score metrics majority kept_epoch best_epoch epochs steps train_loss seconds examples_per_second "
    "tokens_per_second history"
).split()
UNKNOWN_OF_TASK = "score metrics majority failed failure steps train_loss".split()
TEMPORARY_NAME = re.compile(r"\.(.+)\.[0-9a-f]{8}")  # as temporary_path in minbert/files.py makes it


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
        # Copies in the run folder, from which the model's labels are read later: absolute path -> name.
        tasks = zip(settings.names, settings.chosen_tasks)
        self.task_files = {absolute(name): task.name + SUFFIX for name, task in tasks if task.own}
        self.changes = ""  # how the machine of a resumed run differs from before
        if self.active and settings.resume:
            self.reopen(fingerprint)
        elif self.active:
            self.create(config, fingerprint)
        self.lock = FolderLock(self.path) if self.active else None
        if self.active and settings.resume and (self.path / "metrics.json").exists():
            self.lock.release()  # another process has completed the run while this one read the data
            raise InputError(f"--resume {self.path}: {close_complete_run(self.path)}")
        if self.active:
            for path in unfinished_files(self.path, settings):
                path.unlink()
        resumed = self.active and bool(settings.resume)
        self.log = StepLines(self.path / "log.jsonl", LOG_EVERY, resumed)
        self.gradients = StepLines(self.path / "gradients.jsonl", settings.record_every or 1, resumed)
        self.checkpoints = None
        if settings.save != "none":
            every = settings.checkpoint_steps, settings.checkpoint_minutes
            folder = self.path / "checkpoint"
            self.checkpoints = Checkpoints(folder, *every, self.active, before_writing=self.check_folder)

    def create(self, config: BertConfig, fingerprint: Fingerprint) -> None:
        """Make the folder. It appears with its settings.json in it, or not at all."""
        values = asdict(self.settings) | {"config": asdict(config)} | environment(self.runtime)
        values["fingerprint"] = fingerprint
        # A run can be resumed from another working folder, so paths are made absolute.
        values |= {name: absolute(values[name]) for name in ("model", "data")}
        names = [absolute(name) if is_task_file(name) else name for name in self.settings.names]
        values |= {"tasks": names} if self.settings.multitask else {"task": names[0]}
        values["task_files"] = self.task_files
        for _ in range(100):
            temporary = temporary_path(self.path)
            new_parents = [parent for parent in temporary.parents if not parent.exists()]
            try:
                make_folders(temporary.parent)
                temporary.mkdir()
                self.copy_task_files(temporary)
                write_json(temporary / "settings.json", values | {"out": str(self.path)})
                rename(temporary, self.path)
                return
            except InputError:
                shutil.rmtree(temporary, ignore_errors=True)
                raise
            except OSError as error:
                shutil.rmtree(temporary, ignore_errors=True)
                if self.settings.out or not self.path.exists():
                    for parent in new_parents:
                        with contextlib.suppress(OSError):
                            parent.rmdir()
                    raise InputError(f"--out {self.path} cannot be made: {error.strerror}") from None
                self.path = default_path(self.settings)  # another run of the same second took the name
        raise InputError(f"--out {self.path} exists: name another")

    def copy_task_files(self, folder: Path) -> None:
        """Raises InputError for a task file that was changed or removed since the run read it."""
        for name, task in zip(self.settings.names, self.settings.chosen_tasks, strict=True):
            if task.own:
                copy = folder / (task.name + SUFFIX)
                try:
                    shutil.copyfile(name, copy)
                except FileNotFoundError:
                    raise InputError(f"{name} was removed while the run began") from None
                sync(copy)
                (copied,) = choose_tasks([str(copy)], self.settings.pairs)
                if replace(copied, folder=task.folder) != task:
                    raise InputError(f"{name} was changed while the run began: start it again")

    def reopen(self, fingerprint: Fingerprint) -> None:
        """Check that this is the same run. Note how this machine differs: the last bits may differ then, too."""
        before = json.loads((self.path / "settings.json").read_text(encoding="utf-8"))
        if not isinstance(before.get("fingerprint"), dict) or not before["fingerprint"]:
            raise InputError(
                f"--resume {self.path}: its settings.json has no fingerprint, so nobody can tell whether this is still "
                "the same run. Start a new run"
            )
        if different := changed(before["fingerprint"], fingerprint):
            raise InputError(
                f"--resume {self.path}: {', '.join(different)} changed since the run began. "
                "Undo the change, or start a new run"
            )
        now = environment(self.runtime)
        self.changes = ", ".join(
            f"{name} {now[name]} instead of {before.get(name)}" for name in now if before.get(name) != now[name]
        )

    def __enter__(self) -> "RunFolder":
        return self

    def __exit__(self, kind, error, trace) -> None:
        if self.active:
            try:
                self.note_end(kind, error)
            finally:
                self.lock.release()

    def note_end(self, kind: type[BaseException] | None, error: BaseException | None) -> None:
        """The run has ended, with an error of that kind or None. Write a failure down, or say how to go on."""
        if not self.lock.is_ours():
            return  # the folder is gone: there is nothing to clean up or to go on from
        own_files = {path.name for path in self.path.iterdir()} - {LOCK, "settings.json", *self.task_files.values()}
        if kind is InputError and not self.settings.resume and not own_files:
            shutil.rmtree(self.path)  # a mistake that showed before the first step leaves nothing behind
        elif kind is TrainingError:
            self.write_failure(str(error))
            if kept := self.checkpoints and self.checkpoints.files():
                write_line(f"the last good state, after step {step_of(kept[-1])}, stays in {kept[-1].parent}")
        elif kind is not None and not (self.path / "metrics.json").exists():
            write_line(f"stopped; {self.resume_hint()}")

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

    def check_folder(self) -> None:
        """Raise InputError if the folder was removed or renamed: nothing is written under the old name then."""
        if self.active:
            self.lock.check()

    def append_log(self, row: dict) -> None:
        """Append one row to log.jsonl."""
        if self.active:
            self.check_folder()
            self.log.append(row)

    def append_gradients(self, row: dict) -> None:
        """Append one row to gradients.jsonl."""
        if self.active:
            self.check_folder()
            self.gradients.append(row)

    def save_model(self, model: nn.Module, tokenizer: Tokenizer) -> None:
        """Write model/, whole or not at all, and trained.safetensors if only some parameters train."""
        if not self.active or self.settings.save == "none":
            return
        self.check_folder()
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
            self.check_folder()
            write_predictions(self.path, dataset, split, logits, frozen, self.settings.multitask)

    def write_metrics(self, values: dict) -> None:
        """Write metrics.json. With it the run is complete, and its checkpoints are deleted, except with --save all."""
        if self.active:
            self.check_folder()
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


def unfinished_files(folder: Path, settings: CommonSettings) -> Iterator[Path]:
    """What a killed run left under temporary names: .NAME.<8 random digits>, where NAME is a file that runs write.

    The user's own hidden files are not among them.
    """
    written = {"log.jsonl", "gradients.jsonl", "metrics.json", "trained.safetensors", *KNOWN_FILES}
    for task in settings.chosen_tasks:
        written |= {own_path(folder, task.name, split).name for split in (*task.splits("dev"), *task.splits("test"))}
    for path in (*folder.glob(".*"), *(folder / "predictions").rglob(".*")):
        temporary = TEMPORARY_NAME.fullmatch(path.name)
        if temporary and temporary[1] in written and path.is_file():
            yield path
    if (folder / "checkpoint" / NEW).is_file():
        yield folder / "checkpoint" / NEW


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

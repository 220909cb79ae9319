"""The run folder: settings, log, metrics, model. It appears when training starts; no other run ever overwrites it."""

import contextlib
import json
import math
import os
import platform
import shlex
import shutil
import sys
import time
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError
from tqdm import tqdm

import minbert
from minbert import predictions
from minbert.best import best_of
from minbert.checkpoint import Checkpoint, step_of
from minbert.errors import InputError, TrainingError, reason
from minbert.weights import save_model, save_trained, write_text

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

# What metrics.json cannot tell of a run whose loss was not finite.
UNKNOWN = (
    "score metrics majority kept_epoch best_epoch epochs steps train_loss seconds examples_per_second "
    "tokens_per_second history"
)
OF_A_TASK = "score metrics majority failed failure steps train_loss"


class Run:
    """One run's folder and what it prints. On the other ranks of a distributed run it is silent."""

    def __init__(self, settings, runtime):
        self.settings, self.runtime = settings, runtime
        self.active = runtime.is_main
        self.folder = Path(settings.out) if settings.out else default_folder(settings)
        if settings.out and not settings.resume and self.active and self.folder.exists():
            raise InputError(f"--out {self.folder} exists: a run never overwrites another; delete it or name another")

    def start(self, config, steps: int) -> "Run":
        """Make the folder, with settings.json in it: all is read, training can begin."""
        self.earlier = []  # lines that a resumed run has in its log already
        if self.active:
            resolved = asdict(self.settings) | {"config": asdict(config)} | environment(self.runtime)
            resolved |= {name: absolute(resolved[name]) for name in ("model", "data")}  # a resumed run may be elsewhere
            if self.settings.resume:
                self.continue_as(resolved)
            else:
                self.make_folder(resolved)
            self.claim()
        keeps = None if self.settings.save == "none" else self.folder / "checkpoint"
        every = self.settings.checkpoint_steps, self.settings.checkpoint_minutes
        self.checkpoint = Checkpoint(keeps, *every, active=self.active)
        if self.active and self.settings.resume and not (keeps and self.checkpoint.files()):
            self.say("no checkpoint was kept: the run starts from its beginning")
        # A bar on a terminal; elsewhere it is off, and `log` prints plain lines.
        hidden = not (self.active and sys.stderr.isatty())
        self.bar = tqdm(total=steps, unit="step", disable=hidden, dynamic_ncols=True)
        return self

    def make_folder(self, resolved: dict) -> None:
        """It appears with its settings.json in it or not at all, and never in the place of another run's."""
        for _ in range(100):
            temporary = self.folder.with_name(f".{self.folder.name}.{os.getpid()}")
            parents = [parent for parent in temporary.parents if not parent.exists()]
            try:
                temporary.mkdir(parents=True)
                write_json(temporary / "settings.json", resolved | {"out": str(self.folder)})
                temporary.rename(self.folder)
                return
            except OSError as error:
                shutil.rmtree(temporary, ignore_errors=True)
                if not self.folder.exists() or self.settings.out:
                    for parent in parents:
                        with contextlib.suppress(OSError):
                            parent.rmdir()
                    raise InputError(f"--out {self.folder} cannot be made: {error.strerror}") from None
                self.folder = default_folder(self.settings)  # another run of the same second was faster
        raise InputError(f"--out {self.folder} exists: name another")

    def continue_as(self, resolved: dict) -> None:
        """Take up the log, and say what differs from the machine on which the run began: the bits may, too."""
        before = json.loads((self.folder / "settings.json").read_text(encoding="utf-8"))
        changed = [name for name in environment(self.runtime) if before.get(name) != resolved[name]]
        if changed:
            what = ", ".join(f"{name} {resolved[name]} instead of {before.get(name)}" for name in changed)
            self.say(f"going on elsewhere, so the last bits may differ: {what}")
        with contextlib.suppress(FileNotFoundError):
            self.earlier = (self.folder / "log.jsonl").read_text(encoding="utf-8").splitlines()

    def claim(self) -> None:
        """One process at a time works on a run. The system takes the lock back however the process ends.

        Raises InputError if another has it. What a process that was killed left under temporary names is removed.
        """
        self.lock = (self.folder / "settings.json").open("rb")
        if fcntl is not None:
            try:
                fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise InputError(f"{self.folder}: another process is at work on this run") from None
        for path in self.folder.rglob(".*"):
            if path.is_file():
                path.unlink()

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, kind, error, trace) -> None:
        """A run whose loss was not finite has failed, and says so in its metrics too. One that was stopped by
        anything else can go on; a mistake that shows before the first step leaves nothing behind."""
        self.bar.close()
        if kind is InputError and self.active and os.listdir(self.folder) == ["settings.json"]:
            shutil.rmtree(self.folder)
            return
        if kind is TrainingError:
            unknown = dict.fromkeys(UNKNOWN.split())
            if self.settings.multitask:
                unknown["tasks"] = {name: dict.fromkeys(OF_A_TASK.split()) for name in self.settings.names}
            self.write("metrics.json", self.about() | unknown | {"failed": True, "failure": str(error)})
        elif kind is not None and not (self.folder / "metrics.json").exists():
            self.say(f"stopped; {self.way_on()}")

    def way_on(self) -> str:
        if self.checkpoint.folder is None:
            return "with --save none there is no checkpoint to go on from"
        program = "python" if self.runtime.world == 1 else f"torchrun --nproc-per-node {self.runtime.world}"
        command = f"{program} {sys.argv[0]} --resume {shlex.quote(str(self.folder))}"
        kept = [path for path in self.checkpoint.files() if path not in self.checkpoint.damaged]
        return f"this goes on {f'after step {step_of(kept[-1])}' if kept else 'from the beginning'}: {command}"

    def about(self) -> dict:
        s = self.settings
        return {"task": s.title, "model": s.model, "option": s.option, "seed": s.seed, "split": "dev", "keep": s.keep}

    def say(self, text: str) -> None:
        if self.active:
            tqdm.write(text)

    def note_left_out(self, examples) -> None:
        """Tell of the records that the reader left out."""
        if examples.left_out:
            lines = ", ".join(map(str, examples.left_out[:10])) + (", ..." if len(examples.left_out) > 10 else "")
            many = f"{len(examples.left_out)} incomplete record" + "s" * (len(examples.left_out) > 1)
            self.say(f"{examples.path}: left out {many}, line {lines}")

    def log(self, row: dict) -> None:
        """Append one line to log.jsonl, and show it."""
        if not self.active:
            return
        row = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}  # fp16's norms
        path = self.folder / "log.jsonl"
        if self.earlier:  # the run went on from a step before the last that it had logged
            write_text(path, "".join(line + "\n" for line in self.earlier if is_before(line, row["step"])))
            self.earlier = []
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        penalty = f"  penalty {sum(row['penalty'].values()):.4f}" if row["penalty"] else ""
        by_task = ", ".join(f"{task} {loss:.4f}" for task, loss in row["losses"].items())
        loss = f"{row['loss']:.4f}" + f" ({by_task})" * self.settings.multitask
        shown = f"loss {loss}{penalty}  lr {row['lr']:.1e}  {row['tokens_per_second']:.0f} tokens/s"
        self.bar.set_postfix_str(shown, refresh=False)
        self.bar.update(row["step"] - self.bar.n)
        if self.bar.disable:
            left = tqdm.format_interval(row["seconds_left"])
            print(f"step {row['step']}/{row['steps']}  epoch {row['epoch']}  {shown}  {left} left", flush=True)

    def write(self, name: str, values: dict) -> None:
        if self.active:
            write_json(self.folder / name, values)

    def save(self, model, tokenizer) -> None:
        """Write model/, whole or not at all, and trained.safetensors where that is less."""
        if not self.active or self.settings.save == "none":
            return
        temporary, final = self.folder / ".model", self.folder / "model"
        shutil.rmtree(temporary, ignore_errors=True)  # of a run that was killed just here
        try:
            save_model(model, temporary)
            tokenizer.save(temporary)
            shutil.rmtree(final, ignore_errors=True)
            temporary.rename(final)
            if not all(p.requires_grad for p in model.parameters()):
                save_trained(model, self.folder / "trained.safetensors")
        except (OSError, SafetensorError) as error:
            raise InputError(f"{final} cannot be written: {reason(error)}") from None
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def save_predictions(self, dataset, split: str, logits, frozen: bool) -> None:
        """Write predictions/ of one split in the official form of its task."""
        if self.active:
            predictions.write(self.folder, dataset, split, logits, frozen, self.settings.multitask)

    def finish(self, history: list[dict], totals: dict) -> None:
        """Write metrics.json, which makes the run complete, and print the line that everybody reads.

        The scores are those of the epoch whose weights are kept. `totals` are training's: Meter's, for one.
        """
        best, last = best_of(history), history[-1]
        kept = best if self.settings.keep == "best" else last
        scores = kept["dev"]
        found = self.about() | scores | totals
        found |= {"kept_epoch": kept["epoch"], "best_epoch": best["epoch"], "history": history}
        found |= {"peak_memory_bytes": self.runtime.peak_memory()}
        if self.settings.multitask:
            found["tasks"] = {task: result | totals["tasks"][task] for task, result in scores["tasks"].items()}
            self.say("steps: " + ", ".join(f"{task} {of['steps']}" for task, of in found["tasks"].items()))
        else:
            del found["tasks"]
        self.write("metrics.json", found)
        self.say(f"kept: epoch {kept['epoch']}, {what_is_kept(kept, best, last)}")
        if self.settings.save != "all":
            self.checkpoint.remove()
        if scores["failed"]:
            self.say(f"FAILED RUN: {scores['failure']}")
        self.say(f"{self.settings.title} dev {describe_scores(scores)}  {self.folder}")


def absolute(name: str) -> str:
    """The whole path of a folder; a model hub name as it is."""
    return str(Path(name).absolute()) if Path(name).exists() else name


def write_json(path: Path, values: dict) -> None:
    write_text(path, json.dumps(values, indent=2) + "\n")


def is_before(line: str, step: int) -> bool:
    """Whether a line of the log is whole and of an earlier step."""
    try:
        return json.loads(line)["step"] < step
    except ValueError:  # the run was killed while it wrote the line
        return False


def describe_scores(scores: dict) -> str:
    """score 0.8262 (accuracy 0.7892, f1 0.8632; majority class 0.6838, 0.8122)"""
    own = ", ".join(f"{name} {value:.4f}" for name, value in scores["metrics"].items())
    majority = ", ".join(f"{value:.4f}" for value in scores["majority"].values())
    return f"score {scores['score']:.4f} ({own}; majority class {majority})"


def what_is_kept(kept: dict, best: dict, last: dict) -> str:
    if kept is last and last["dev"]["score"] == best["dev"]["score"]:
        return "the last; none is better on dev"
    if kept is best:
        return f"on dev the best; the last, epoch {last['epoch']}, has {last['dev']['score']:.4f}"
    return f"the last; on dev epoch {best['epoch']} is the best, with {best['dev']['score']:.4f}"


def default_folder(settings) -> Path:
    """runs/<task>-<option>-seed<seed>-<time>, with a number where that is taken."""
    name = f"{settings.title}-{settings.option}-seed{settings.seed}-{time.strftime('%Y%m%d-%H%M%S')}"
    names = [name, *(f"{name}-{i}" for i in range(2, 100))]
    return next((folder for n in names if not (folder := Path("runs") / n).exists()), Path("runs") / name)


def environment(runtime) -> dict:
    return {
        "precision": runtime.precision,
        "device": str(runtime.device),
        "device_name": torch.cuda.get_device_name(runtime.device)
        if runtime.device.type == "cuda"
        else platform.machine(),
        "processes": runtime.world,
        "threads": torch.get_num_threads(),
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "minbert": minbert.__version__},
    }

"""The folder of a study: one run folder for each run, what the runs printed, and the state of each run."""

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from minbert.errors import InputError
from minbert.files import read_json_object, write_text
from minbert.report.metrics_file import check_metrics
from minbert.training.arguments import new_settings
from minbert.training.lock import is_locked
from minbert.training.run_folder import absolute
from minbert.training.setting_fields import flag_of
from minbert.training.settings import CommonSettings
from study.plan import Run

ROOT = Path(__file__).resolve().parents[1]  # the folder of the project

# The states of a run.
WAITING, RUNNING, STOPPED, ERROR, FINISHED = "waiting", "running", "stopped", "error", "finished"

RESOLVED = ("device", "precision")  # settings.json does not have "auto" but what it meant on the machine
# Settings that the reports leave out, and that a run in the folder need not share with the study.
NOT_COMPARED = (*RESOLVED, "out", "resume", "save", "checkpoint_steps", "checkpoint_minutes")


class StudyFolder:
    """studies-out/NAME: runs/NAME is a run folder, output/NAME.txt what the run printed."""

    def __init__(self, path: Path | str):
        self.path = Path(path)
        self.output = self.path / "output"

    def run_folder(self, run: Run) -> Path:
        return self.path / "runs" / run.name

    def output_file(self, run: Run) -> Path:
        """What the run printed, of all attempts."""
        return self.output / f"{run.name}.txt"

    def error_file(self, run: Run) -> Path:
        """Why the last attempt ended in an error: one line. The next attempt removes the file."""
        return self.output / f"{run.name}.error"

    def state(self, run: Run) -> str:
        """The state of a run, as other processes see it too."""
        folder = self.run_folder(run)
        if (folder / "metrics.json").exists():
            return FINISHED
        if is_locked(folder):
            return RUNNING
        if self.error_file(run).exists():
            return ERROR
        return STOPPED if (folder / "settings.json").exists() else WAITING

    def metrics(self, run: Run) -> dict:
        """The metrics.json of a finished run. Raises InputError if it is damaged."""
        path = self.run_folder(run) / "metrics.json"
        values = read_json_object(path)
        try:
            check_metrics(values, path)
        except InputError as error:
            raise InputError(f"{error}: delete {path.parent}, and the study trains the run again") from None
        return values

    def error(self, run: Run) -> str:
        """The line of the error file; empty if another process has just started the run again and deleted the file."""
        try:
            return self.error_file(run).read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            return ""

    def note_error(self, run: Run, line: str) -> None:
        self.create()  # somebody may have deleted it
        write_text(self.error_file(run), line + "\n")

    def prepare(self, run: Run) -> CommonSettings:
        """The settings with which the run starts, or goes on if it was stopped. An earlier error is forgotten."""
        self.error_file(run).unlink(missing_ok=True)
        out = str(self.run_folder(run))
        started = (self.run_folder(run) / "settings.json").exists()
        return replace(run.settings, out=out, resume=out if started else None)

    def create(self) -> None:
        """Make the folder. Raises InputError."""
        try:
            self.output.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{self.path} cannot be made: {error.strerror}") from None

    def check(self, runs: list[Run]) -> None:
        """Raise InputError if a run of the folder was made with other settings than the study now asks for."""
        for run in runs:
            path = self.run_folder(run) / "settings.json"
            if path.exists():
                check_settings(run.settings, read_json_object(path), path)
            elif (self.run_folder(run) / "metrics.json").exists():
                raise InputError(f"{path} is missing, but the run is finished: delete that run's folder")

    def wall_seconds(self, run: Run) -> float:
        """From the start of a finished run to its end, with loading and evaluation. Too long if it was stopped."""
        start, end = (self.run_folder(run) / name for name in ("settings.json", "metrics.json"))
        return max(0.0, end.stat().st_mtime - start.stat().st_mtime)  # in a copied folder the times mean nothing


def check_settings(settings: CommonSettings, saved: dict[str, Any], path: Path) -> None:
    """Raise InputError if settings.json differs from the settings that the study asks for."""
    saved = new_settings(type(settings)) | saved
    for f in fields(settings):
        value = getattr(settings, f.name)
        if f.name in NOT_COMPARED and (f.name not in RESOLVED or value == "auto"):
            continue
        wanted = absolute(value) if f.name in ("model", "data") else json.loads(json.dumps(value))
        actual = saved.get(f.name)
        if f.name == "device":
            actual = str(actual).partition(":")[0]  # cuda:0
        if actual != wanted:
            raise InputError(
                f"{path} has {flag_of(f)} {actual}, the study asks for {wanted}: "
                "delete that run's folder, or give the study another --out"
            )

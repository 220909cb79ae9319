"""ReportedRun: a run folder in any state, as a report needs it. Its settings, tasks, log and scores so far."""

from collections.abc import Sequence
from pathlib import Path

from minbert.errors import InputError
from minbert.files import read_json_object
from minbert.report.metrics_file import read_metrics
from minbert.training.checkpoint import read_history
from minbert.training.lock import is_locked
from minbert.training.settings import CommonSettings
from minbert.training.step_lines import read_log
from minbert.training.text_model import read_run_settings, tasks_of_run


class ReportedRun:
    """A run of train.py or multitask.py. Nothing in its folder is changed."""

    def __init__(self, folder: Path, data: Path | None = None):
        """`data` is where the tasks' files are now, if not where the run found them.

        Raises InputError if the folder is not a run folder, or its files do not hold what a run writes.
        """
        self.folder = folder
        self.saved = self.read_settings_file()
        self.settings: CommonSettings = read_run_settings(folder)
        self.data = str(data or self.settings.data)
        self.tasks = tasks_of_run(folder, self.settings, data)
        self.name = folder.resolve().name
        self.log: list[dict] = []
        self.metrics: dict | None = None  # of metrics.json; None while the run is not finished
        self.history: list[dict] = []  # the scores of each epoch
        self.refresh()

    def read_settings_file(self) -> dict:
        path = self.folder / "settings.json"
        if not path.exists():
            raise InputError(f"{self.folder} is not a run folder: it has no settings.json")
        return read_json_object(path)

    def refresh(self) -> None:
        """Read again what a run writes while it goes on. Raises InputError if the folder or its metrics are gone."""
        self.read_settings_file()
        # The order matters: a run may end in between, and then its log must be read after its metrics.
        finished = (self.folder / "metrics.json").exists()
        self.metrics = read_metrics(self.folder) if finished else None
        # A run whose loss was not finite has no history in its metrics. Its checkpoints stay.
        self.history = (finished and self.metrics["history"]) or read_history(self.folder / "checkpoint")
        self.log = read_log(self.folder)

    @property
    def is_finished(self) -> bool:
        return self.metrics is not None

    @property
    def curve_tasks(self) -> list[str]:
        """The tasks that have curves of their own: those of a run of several."""
        return [task.name for task in self.tasks] if self.settings.multitask else []

    @property
    def failure(self) -> str:
        """Why the run failed: a score that is not above the majority baseline, a loss that is not finite. Or ""."""
        return str(self.metrics["failure"]) if self.metrics is not None and self.metrics["failed"] else ""

    @property
    def state(self) -> str:
        """finished, failed, running, or stopped"""
        if self.is_finished:
            return "failed" if self.failure else "finished"
        return "running" if is_locked(self.folder) else "stopped"


def check_distinct(folders: Sequence[Path]) -> None:
    """Raise InputError for a run folder that is given twice."""
    places = [folder.resolve() for folder in folders]
    for folder, place in zip(folders, places, strict=True):
        if places.count(place) > 1:
            raise InputError(f"a RUN is given twice: {folder}")


def read_runs(folders: Sequence[Path], data: Path | None = None) -> dict[str, ReportedRun]:
    """The runs by their names: those of their folders, or the paths as they were given where two have one name.

    Raises InputError for a folder that is given twice, and as ReportedRun does.
    """
    check_distinct(folders)
    runs = [ReportedRun(folder, data) for folder in folders]
    names = [run.name for run in runs]
    return dict(zip([str(run.folder) if names.count(run.name) > 1 else run.name for run in runs], runs))

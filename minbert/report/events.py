"""Event files for TensorBoard: the learning curves of runs, each point once."""

import importlib
from pathlib import Path
from typing import Any

from minbert.errors import InputError
from minbert.report.curves import Curve, Quantity, run_curves
from minbert.report.reported_run import ReportedRun
from minbert.report.texts import unique_file_name


class EventFiles:
    """Event files of some runs, in a folder for each run. A context: it closes the files."""

    def __init__(self, runs: dict[str, ReportedRun], folder: Path):
        """Raises InputError if tensorboard is missing, or if a folder exists: its points would be there twice."""
        self.runs, self.folder = runs, folder
        taken: set[str] = set()
        folders = {name: folder / unique_file_name(name, taken) for name in runs}
        writer = find_writer()
        for path in folders.values():
            if path.exists():
                raise InputError(f"--tensorboard {folder}: {path} exists, delete it or name another folder")
        self.writers = {name: writer(str(path)) for name, path in folders.items()}
        self.last: dict[tuple[str, Quantity], int] = {}  # step, or epoch, of the last point that was written
        self.points = 0

    def __enter__(self) -> "EventFiles":
        return self

    def __exit__(self, kind, error, trace) -> None:
        for writer in self.writers.values():
            writer.close()

    def write(self) -> None:
        """Write the points that are new. (A resumed run does some steps again: their points are there already.)"""
        for name, run in self.runs.items():
            for quantity, curve in run_curves(run.log, run.history, run.curve_tasks).items():
                self.write_curve(name, quantity, curve)
            self.writers[name].flush()

    def write_curve(self, name: str, quantity: Quantity, curve: Curve) -> None:
        """The points of one curve after the last one that was written."""
        tag = f"{quantity.kind}/{quantity.part}" if quantity.part else quantity.kind
        for position, value in sorted(curve.items()):
            if position > self.last.get((name, quantity), -1):
                self.writers[name].add_scalar(tag, value, position)
                self.last[name, quantity] = position
                self.points += 1


def find_writer() -> Any:
    """The class SummaryWriter. Raises InputError if tensorboard is missing."""
    try:
        return importlib.import_module("torch.utils.tensorboard").SummaryWriter
    except ImportError:
        raise InputError("tensorboard missing: pip install tensorboard") from None

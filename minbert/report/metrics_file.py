"""metrics.json of a finished run, checked."""

from pathlib import Path

from minbert.errors import InputError
from minbert.files import read_json_object
from minbert.training.step_lines import is_number

# Fields of metrics.json that figures and reports read, beside those whose values are checked below.
NEEDED = {"kept_epoch", "majority", "train_loss", "seconds", "failure", "metrics"}


def read_metrics(folder: Path) -> dict:
    """The metrics.json of a run folder. Raises InputError if there is none, or not one of a finished run."""
    path = folder / "metrics.json"
    metrics = read_json_object(path)
    check_metrics(metrics, path)
    return metrics


def check_metrics(metrics: dict, path: Path) -> None:
    """Raise InputError if a metrics.json lacks what figures and reports read, for example that of another program."""
    try:
        epochs = [(entry["epoch"], entry["dev"]["score"]) for entry in metrics["history"] or []]
        numbers = [number for epoch in epochs for number in epoch]
        complete = isinstance(metrics["failed"], bool) and (metrics["score"] is None or is_number(metrics["score"]))
    except (KeyError, TypeError):
        complete, numbers = False, []
    if not complete or not all(map(is_number, numbers)) or not set(metrics) >= NEEDED:
        raise InputError(f"{path} is not that of a finished run of train.py or multitask.py")

"""What is still to be done with a run that has its metrics.json."""

import shutil
from pathlib import Path

from minbert.files import read_json_object
from minbert.training.lock import FolderLock


def close_complete_run(folder: Path) -> str:
    """Delete the checkpoints that a kill at the very end of a run left, and say why the run cannot go on.

    Raises InputError if another process is at work on the run, or if its files are damaged.
    """
    lock = FolderLock(folder)
    try:
        metrics, settings = (read_json_object(folder / name) for name in ("metrics.json", "settings.json"))
        if metrics.get("score") is None:
            return f"{metrics.get('failure')}. It would happen again: start a new run, for example with a lower --lr"
        if settings.get("save") != "all":
            shutil.rmtree(folder / "checkpoint", ignore_errors=True)
        return "the run is complete, it has a metrics.json"
    finally:
        lock.release()

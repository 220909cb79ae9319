"""Small studies in processes of their own."""

import csv
import json
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# One thread a worker: the runs are too small to share out, and equal bits need an equal number of threads.
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
FLAGS = {"device": "cpu", "precision": "fp32", "batch-size": 16, "max-length": 32, "lr": 1e-2}


def write_study(path: Path, model: Path, data: Path, text: str) -> Path:
    """A study file of the tiny model. `text` starts with further settings, and goes on with tables."""
    settings = "\n".join(f"{key} = {json.dumps(value)}" for key, value in FLAGS.items())
    path.write_text(f"[settings]\nmodel = '{model}'\ndata = '{data}'\n{settings}\n{text}", encoding="utf-8")
    return path


def start(file: Path, out: Path, *flags: str, **more) -> subprocess.Popen:
    """Start a study; `more` goes to subprocess.Popen."""
    command = [sys.executable, "-m", "study", str(file), "--out", str(out), *flags]
    output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, env=ENVIRONMENT, **output, **more)


def results(out: Path) -> list[dict]:
    """The rows of results.csv without the times."""
    with (out / "results.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [{name: value for name, value in row.items() if name not in ("seconds", "folder")} for row in rows]


def wait_until(happened, seconds: float = 300.0) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)

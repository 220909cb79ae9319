"""What the benchmarks share: two flags, a run in a process of its own, and a sampler for steps that are fixed."""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from minbert.data.dataset import Dataset
from minbert.data.sampling import Steps

ROOT = Path(__file__).resolve().parent.parent


def make_parser(description: str) -> argparse.ArgumentParser:
    """A parser with --model and --data, both required."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True)
    return parser


def train_run(*flags, program: str = "train.py") -> dict:
    """Run train.py or multitask.py in a process of its own, and return metrics.json. The run folder is deleted.

    Exit status 1 is a result: a loss was not finite, and metrics.json says so. Raises CalledProcessError for others.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        command = [sys.executable, ROOT / program, *flags, "--save", "none", "--out", out]
        done = subprocess.run(list(map(str, command)), stdout=subprocess.DEVNULL)
        if done.returncode != 1:
            done.check_returncode()
        return json.loads((out / "metrics.json").read_text())


def run_benchmark(name: str, *flags) -> str:
    """Run a benchmark in a process of its own, and return the last line of its output."""
    command = [sys.executable, "-m", f"benchmarks.{name}", *map(str, flags)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT).stdout.splitlines()[-1]


class FixedSteps:
    """A sampler for `fit` whose epochs all have the same steps."""

    def __init__(self, dataset: Dataset, batches: list[list[int]]):
        self.datasets, self.batches = [dataset], batches
        self.steps = len(batches)

    def epoch(self, number: int) -> Steps:
        (dataset,) = self.datasets
        return [(dataset, rows) for rows in self.batches]


def no_scores(epoch: int) -> dict:
    """The `evaluate` of a `fit` that only trains."""
    return {}

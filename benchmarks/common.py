"""What the benchmarks share: the two flags nearly all of them have, a whole run, and a run that keeps no folder."""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def parser(description: str) -> argparse.ArgumentParser:
    """--model and --data, both required."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--model", required=True)
    made.add_argument("--data", required=True)
    return made


def train_run(*flags, program: str = "train.py") -> dict:
    """The metrics of a run of train.py or multitask.py, whose folder is not kept."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        command = [sys.executable, ROOT / program, *flags, "--save", "none", "--out", out]
        subprocess.run(list(map(str, command)), check=True, stdout=subprocess.DEVNULL)
        return json.loads((out / "metrics.json").read_text())


class Silent:
    """What training.fit wants of a run."""

    def log(self, row: dict) -> None:
        """Nothing is kept."""

"""Two finished runs of two steps on the embedded sample, made once for each test process."""

from pathlib import Path

import pytest

import train
from papers.finished_run import FinishedRun

SMALL = "--train-size 40 --max-steps 2 --batch-size 8 --max-length 32 --device cpu --precision fp32".split()


@pytest.fixture(scope="session")
def runs(tmp_path_factory) -> list[FinishedRun]:
    """Runs with seeds 0 and 1 on RTE."""
    folder = tmp_path_factory.mktemp("runs")
    return [make_run(folder / f"rte-seed{seed}", "--seed", str(seed)) for seed in (0, 1)]


def make_run(folder: Path, *flags: str) -> FinishedRun:
    """Train, and read the run folder."""
    assert train.main([*SMALL, *flags, "--out", str(folder)]) == 0
    return FinishedRun(folder)

"""How `python -m study --jobs N` divides the machine between N workers, and the command in the report."""

from types import SimpleNamespace

import pytest
import torch

import study.__main__ as program


class FakePool:
    """Trains nothing, and keeps what it was told."""

    def __init__(self, folder, jobs, threads, *_):
        FakePool.told = jobs, threads

    def train(self, runs) -> None:
        pass


@pytest.mark.parametrize(
    "devices, cores, jobs, threads",
    [
        (["cpu", "cpu"], 8, 3, 2),
        (["cpu"], 2, 2, 1),
        (["cpu"], 2, 4, 1),  # more workers than cores
        (["cpu"], 8, 1, None),  # one worker has the whole machine, as a run without a study
        (["cpu", "cuda"], 8, 3, None),  # what computes on a GPU keeps torch's default
    ],
)
def test_workers_on_a_cpu_divide_the_cores(devices, cores, jobs, threads, monkeypatch):
    monkeypatch.setattr(program, "cpu_count", lambda: cores)
    monkeypatch.setattr(program, "choose_device", torch.device)
    monkeypatch.setattr(program, "Pool", FakePool)
    runs = [SimpleNamespace(settings=SimpleNamespace(device=device)) for device in devices]
    program.train_runs(runs, None, SimpleNamespace(run_ended=None, refresh=None, jobs=jobs), None)
    assert FakePool.told == (jobs, threads)


@pytest.mark.parametrize("shard", [["--shard", "2/8"], ["--shard=2/8"], ["--report"], []])
def test_the_command_of_a_report_repeats_the_whole_study(shard):
    words = ["a b.toml", "--seeds", "3", *shard, "--jobs", "2"]
    assert program.repeat_command(words) == "python -m study 'a b.toml' --seeds 3 --jobs 2"

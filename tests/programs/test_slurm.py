"""The job scripts in examples/ with stand-ins for SLURM's commands."""

import os
import subprocess
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture
def submit(tmp_path):
    """Run a script as job 7, part 3 of 8, in a folder of its own, with an srun that ends with the given status.
    Returns (status, the calls of SLURM's commands)."""
    (tmp_path / "bin").mkdir()
    for name in ("srun", "scontrol"):
        (tmp_path / "bin" / name).write_text(
            f'#!/bin/bash\necho "{name} $@" >> calls\n[ $HF_HUB_OFFLINE = 1 ] || exit 9\n'
            f"[ {name} = srun ] && exit $STATUS\n"
        )
        (tmp_path / "bin" / name).chmod(0o755)

    def run(status: int, *flags: str, script: str = "slurm.sbatch") -> tuple[int, list[str]]:
        (tmp_path / "calls").unlink(missing_ok=True)
        path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
        environment = {"PATH": path, "SLURM_JOB_ID": "7", "SLURM_CPUS_PER_TASK": "4", "STATUS": str(status)}
        environment |= {"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "8"}
        done = subprocess.run(["bash", str(EXAMPLES / script), *flags], cwd=tmp_path, env=environment)
        return done.returncode, (tmp_path / "calls").read_text().splitlines()

    return run


@pytest.mark.parametrize("script", ["slurm.sbatch", "study.sbatch"])
def test_the_job_is_stopped_by_a_signal_before_its_time_limit_and_may_be_requeued(script):
    options = [line.split()[1] for line in (EXAMPLES / script).read_text().splitlines() if line.startswith("#SBATCH")]
    assert {"--signal=TERM@120", "--requeue", "--gres=gpu:1"} <= set(options)


def test_a_job_that_meets_its_time_limit_is_requeued_and_resumes(submit, tmp_path):
    start = "srun .venv/bin/python train.py --option smart --task a b --out runs/7"
    assert submit(143, "--option", "smart", "--task", "a b") == (143, [start, "scontrol requeue 7"])
    (tmp_path / "runs" / "7").mkdir(parents=True)
    resume = "srun .venv/bin/python train.py --resume runs/7"
    assert submit(143, "--option", "smart") == (143, [resume, "scontrol requeue 7"])
    assert submit(0, "--option", "smart") == (0, [resume])


@pytest.mark.parametrize("status", [0, 1, 2, 137])
def test_a_job_that_ended_otherwise_is_not_requeued(status, submit):
    assert submit(status) == (status, ["srun .venv/bin/python train.py --out runs/7"])


@pytest.mark.parametrize("status, calls", [(143, ["scontrol requeue 7"]), (0, []), (1, []), (130, [])])
def test_each_job_of_a_study_trains_its_part_and_is_requeued_when_its_time_ends(submit, status, calls):
    study = "srun .venv/bin/python -m study a b.toml --jobs 2 --shard 3/8"
    assert submit(status, "a b.toml", script="study.sbatch") == (status, [study, *calls])

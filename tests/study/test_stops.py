"""A study that is stopped, loses a worker, or shares its folder: nothing is lost, and nothing is done twice."""

import json
import os
import signal
from pathlib import Path

import pytest

import train
from study.pool import describe_end
from tests.support.studies import FLAGS, results, start, wait_until, write_study

LONG = """
epochs = 20
checkpoint-steps = 2
[methods.plain]
"""


def test_a_stopped_study_goes_on_to_the_same_numbers(tmp_path, model_folder, data):
    """SIGKILL leaves the workers behind: they finish their step and stop. SIGTERM is passed on to them."""
    file, out = write_study(tmp_path / "long.toml", model_folder, data, LONG), tmp_path / "stopped"
    flags = ["--seeds", "2", "--jobs", "2", "--set", "save=model"]
    for number in (signal.SIGKILL, signal.SIGTERM):
        logs = [out / "runs" / f"rte-plain-seed{seed}" / "log.jsonl" for seed in (0, 1)]
        before = [path.stat().st_mtime_ns if path.exists() else 0 for path in logs]
        stopped = start(file, out, *flags)
        wait_until(lambda: all(p.exists() and p.stat().st_mtime_ns > at for p, at in zip(logs, before)))  # noqa: B023
        stopped.send_signal(number)
        output, _ = stopped.communicate()
        assert stopped.returncode == (-number if number == signal.SIGKILL else 128 + number), output
        assert not list(out.glob("runs/*/metrics.json"))
    last = start(file, out, *flags)
    output, _ = last.communicate()
    assert last.returncode == 0 and sum("seed0: score" in line for line in output.splitlines()) == 1, output
    assert "going on after step" in (out / "output" / "rte-plain-seed0.txt").read_text()
    for seed, row in enumerate(results(out)):
        flags = [text for key, value in FLAGS.items() for text in (f"--{key}", str(value))]
        flags += ["--model", str(model_folder), "--data", str(data), "--epochs", "20", "--save", "none"]
        assert train.main([*flags, "--seed", str(seed), "--out", str(tmp_path / str(seed))]) == 0
        alone = json.loads((tmp_path / str(seed) / "metrics.json").read_text())
        assert (row["score"], row["train_loss"]) == (repr(alone["score"]), repr(alone["train_loss"]))


def test_a_killed_worker_is_an_error_of_its_run_alone(tmp_path, model_folder, data):
    file = write_study(tmp_path / "long.toml", model_folder, data, LONG)
    study = start(file, tmp_path / "out", "--seeds", "2")
    first = tmp_path / "out" / "runs" / "rte-plain-seed0"
    wait_until(lambda: (first / "log.jsonl").exists())
    children = Path(f"/proc/{study.pid}/task/{study.pid}/children")
    if not children.exists():
        study.kill()
        pytest.skip("the system does not name the children of a process")
    os.kill(int(children.read_text().split()[0]), signal.SIGKILL)
    output, _ = study.communicate()
    assert study.returncode == 1 and "rte-plain-seed0: ERROR: the process ended by SIGKILL" in output
    assert [row["seed"] for row in results(tmp_path / "out")] == ["1"]


@pytest.mark.parametrize(
    "status, words",
    [
        (0, "with exit status 0"),
        (3, "with exit status 3"),
        (-9, "by SIGKILL; was the memory full?"),
        (-11, "by SIGSEGV"),
    ],
)
def test_the_end_of_a_worker_is_described(status, words):
    assert describe_end(status) == words


def test_two_shards_share_a_folder(tmp_path, model_folder, data):
    file = write_study(
        tmp_path / "shards.toml", model_folder, data, "epochs = 2\n[methods.plain]\n[methods.smart]\noption = 'smart'\n"
    )
    shards = [start(file, tmp_path / "out", "--seeds", "3", "--shard", f"{part}/2") for part in (1, 2)]
    outputs = [shard.communicate()[0] for shard in shards]
    assert [shard.returncode for shard in shards] == [0, 0], outputs
    trained = [line.split()[1] for output in outputs for line in output.splitlines()[:-1]]
    assert len(trained) == len(set(trained)) == 6
    assert len(list((tmp_path / "out" / "runs").glob("*/metrics.json"))) == 6
    assert any("6 of 6 runs finished" in output for output in outputs)


def test_nohup_protects_a_study_from_sighup(tmp_path, model_folder, data):
    file, out = write_study(tmp_path / "one.toml", model_folder, data, LONG), tmp_path / "out"
    study = start(file, out, "--seeds", "1", preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    wait_until(lambda: (out / "runs" / "rte-plain-seed0" / "log.jsonl").exists())
    study.send_signal(signal.SIGHUP)
    output, _ = study.communicate()
    assert study.returncode == 0 and "1 of 1 runs finished" in output, output


def test_a_closed_output_stops_a_study_in_order(tmp_path, model_folder, data):
    """`python -m study FILE | head -1`: as after SIGTERM, when the second line cannot be printed."""
    file, out = write_study(tmp_path / "long.toml", model_folder, data, LONG), tmp_path / "out"
    study = start(file, out, "--seeds", "3")
    assert study.stdout.readline().startswith("1/3 rte-plain-seed0: ")
    study.stdout.close()
    assert study.wait() == 128 + signal.SIGTERM
    assert len(list(out.glob("runs/*/metrics.json"))) == 2 and not list(out.glob("output/*.error"))

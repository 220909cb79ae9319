"""What the runner of studies costs, and whether interruptions change its numbers.

    python -m benchmarks.study_runner overhead      # 20 short runs of the sample: a study, and a shell loop
    python -m benchmarks.study_runner kills         # a study that is stopped at five random moments

overhead: the same 20 runs by `python -m study`, with one worker and with two, and by a loop over train.py, in turn. The
time of each is divided by the time of training alone (the sum of the runs' `seconds`, which leave out imports, loading
and evaluation).

kills: a study gets SIGKILL, SIGTERM or SIGINT at random moments, and is started again each time. Each run's metrics
must equal those of an undisturbed study, and no run may be done twice.
"""

import argparse
import json
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.common import ROOT

STUDY = """
tasks = ["rte"]
compare_with = "plain"
[settings]
epochs = {epochs}
[methods.plain]
[methods.no-correction]
bias-correction = false
"""
TIMES_AND_MEMORY = ("seconds", "examples_per_second", "tokens_per_second", "peak_memory_bytes")


def study_command(folder: Path, *flags, epochs: int = 1) -> list[str]:
    (folder.parent / "study.toml").write_text(STUDY.format(epochs=epochs), encoding="utf-8")
    return [sys.executable, "-m", "study", str(folder.parent / "study.toml"), "--out", str(folder), *map(str, flags)]


def metrics_of(folder: Path) -> dict[str, dict]:
    """{name of the run: metrics.json without times}."""
    paths = sorted(folder.glob("runs/*/metrics.json"))
    values = {path.parent.name: json.loads(path.read_text()) for path in paths}
    return {name: {k: v for k, v in of.items() if k not in TIMES_AND_MEMORY} for name, of in values.items()}


def training_seconds(folder: Path) -> float:
    return sum(json.loads(path.read_text())["seconds"] for path in folder.rglob("metrics.json"))


def timed(commands: list[list[str]]) -> float:
    began = time.monotonic()
    for command in commands:
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT)
    return time.monotonic() - began


def overhead(rounds: int, seeds: int, epochs: int) -> None:
    print("| runner | wall time, s | training alone, s | ratio |\n|---|---|---|---|")
    rows: dict[str, list[tuple[float, float]]] = {}
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            loop = [
                [sys.executable, "train.py", "--epochs", str(epochs), "--save", "none", "--seed", str(seed), flag,
                 "--out", str(folder / "loop" / f"{seed}{flag}")]
                for seed in range(seeds) for flag in ("--bias-correction", "--no-bias-correction")
            ]  # fmt: skip
            ways = {
                "study": [study_command(folder / "one", "--seeds", seeds, epochs=epochs)],
                "study --jobs 2": [study_command(folder / "two", "--seeds", seeds, "--jobs", 2, epochs=epochs)],
                "loop over train.py": loop,
            }
            for (name, commands), part in zip(ways.items(), ("one", "two", "loop")):
                wall = timed(commands)
                rows.setdefault(name, []).append((wall, training_seconds(folder / part)))
    for name, times in rows.items():
        wall, training = (statistics.median(values) for values in zip(*times))
        ratio = statistics.median(one / other for one, other in times)
        print(f"| {name} | {wall:.0f} | {training:.0f} | {ratio:.2f} |")


def kills(count: int, seed: int, seeds: int) -> None:
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as temporary:
        whole, stopped = Path(temporary) / "whole", Path(temporary) / "stopped"
        flags = ("--seeds", seeds, "--jobs", 2)
        length = timed([study_command(whole, *flags)])
        print(f"undisturbed: {len(metrics_of(whole))} runs, {length:.0f} s", flush=True)
        done = 0
        while done < count:
            number = rng.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
            before = set(metrics_of(stopped))
            study = subprocess.Popen(study_command(stopped, *flags), stdout=subprocess.PIPE, text=True, cwd=ROOT)
            try:
                study.wait(timeout=rng.uniform(0, 2 * length / count))
                raise RuntimeError(f"the study ended after {done} signals: use more --seeds")
            except subprocess.TimeoutExpired:
                study.send_signal(number)
                done += 1
            study.communicate()
            finished = set(metrics_of(stopped))
            print(f"{number.name}: exit status {study.returncode}, {len(finished)} runs finished", flush=True)
            assert before <= finished
        subprocess.run(study_command(stopped, *flags), check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
        assert metrics_of(stopped) == metrics_of(whole), "the numbers differ"
        outputs = stopped.glob("output/*.txt")
        ends = [path.read_text().count("rte dev score") for path in outputs]
        assert ends == [1] * len(metrics_of(whole)), f"runs were done {ends} times"
        print(f"{count} signals: {len(ends)} runs with the numbers of the undisturbed study, each done once")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["overhead", "kills"])
    parser.add_argument("--rounds", type=int, default=3, help="of overhead")
    parser.add_argument("--epochs", type=int, default=1, help="of the runs of overhead")
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0, help="of the random moments")
    parser.add_argument("--seeds", type=int, default=10, help="of the studies, which have two methods")
    args = parser.parse_args()
    if args.what == "overhead":
        overhead(args.rounds, args.seeds, args.epochs)
    else:
        kills(args.kills, args.seed, args.seeds)


if __name__ == "__main__":
    main()

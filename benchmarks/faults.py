"""Kill runs of the sample with SIGKILL at random moments, resume them, and compare them with an undisturbed run.

    python -m benchmarks.faults                                      # 20 kills of train.py
    python -m benchmarks.faults --program multitask --kills 5 --seed 1
    python -m benchmarks.faults --program two-processes
    python -m benchmarks.faults --ends 200                           # short runs of two processes: does each end well?

A checkpoint is written after each step, so that many of the kills hit a write. The option is SMART, whose teacher has
to survive, too. These must be equal bit for bit: model/, predictions/, and except for times the log and the metrics.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from benchmarks.common import ROOT

TWO_PROCESSES = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
PROGRAMS = {
    "train": (ROOT / "train.py",),
    "multitask": (ROOT / "multitask.py",),
    "two-processes": (*TWO_PROCESSES, ROOT / "train.py"),
}
COMMAND = ("--option", "smart", "--predict", "test", "--checkpoint-steps", "1")
TIMES_AND_MEMORY = ("seconds", "examples_per_second", "tokens_per_second", "seconds_left", "peak_memory_bytes")


def results(folder: Path) -> dict:
    """All results of a complete run that must not depend on interruptions."""
    files = [path for part in ("model", "predictions") for path in sorted((folder / part).rglob("*")) if path.is_file()]
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    rows.append(json.loads((folder / "metrics.json").read_text()))
    timeless = [{k: v for k, v in row.items() if k not in TIMES_AND_MEMORY} for row in rows]
    names = sorted(path.name for path in folder.iterdir())
    return {"names": names, "rows": timeless} | {str(p.relative_to(folder)): p.read_bytes() for p in files}


def start(flags: Sequence, folder: Path, program: str = "train") -> subprocess.Popen:
    """Start a new run, or resume the one in `folder`."""
    flags = ("--resume", folder) if (folder / "settings.json").exists() else (*flags, "--out", folder)
    command = [sys.executable, *PROGRAMS[program], *flags]
    return subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def kill(process: subprocess.Popen) -> None:
    """SIGKILL for a process and those that it started: torchrun's would live on. (Only Linux has the list.)"""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    for pid in (process.pid, *map(int, children.read_text().split() if children.exists() else ())):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.communicate()


def kill_until_done(
    flags: Sequence, folder: Path, rng: random.Random, longest: float, kills: int, program: str = "train"
) -> int:
    """Run to the end, with at most `kills` kills, each after 0 to `longest` seconds. Returns the number of kills."""
    done = 0
    while not (folder / "metrics.json").exists():
        process, delay = start(flags, folder, program), rng.uniform(0, longest)
        try:
            _, errors = process.communicate(timeout=delay if done < kills else None)
            if process.returncode:
                raise RuntimeError(errors)
        except subprocess.TimeoutExpired:
            kill(process)
            done += 1
            kept = sorted((folder / "checkpoint").glob("*-step*"))
            where = kept[-1].name.split("-")[1].replace("step", "step ") if kept else "the start"
            writing = ", during a write" if (folder / "checkpoint" / ".new").exists() else ""
            print(f"killed after {delay:.1f} s{writing}; continues from {where}", flush=True)
    if (folder / "checkpoint").exists() or (folder / ".lock").exists():  # killed after metrics.json was there
        start(flags, folder, program).communicate()  # says that the run is complete, and removes these
    return done


def compare(program: str, flags: Sequence, seed: int, kills: int) -> None:
    """Kill and resume runs until `kills` kills are done. Raises AssertionError if a result differs."""
    rng, left = random.Random(seed), kills
    with tempfile.TemporaryDirectory() as folder:
        began, runs = time.monotonic(), 0
        kill_until_done(flags, Path(folder) / "undisturbed", rng, 0, kills=0, program=program)
        length = time.monotonic() - began
        expected = results(Path(folder) / "undisturbed")
        print(f"undisturbed: {length:.0f} s, {len(expected) - 2} files in model/ and predictions/", flush=True)
        while left:
            runs += 1
            disturbed = Path(folder) / f"run{runs}"
            left -= kill_until_done(flags, disturbed, rng, length, left, program)
            actual = results(disturbed)
            different = [name for name in expected if actual.get(name) != expected[name]]
            assert actual.keys() == expected.keys() and not different, f"run {runs}: {different} differ"
            print(f"run {runs}: equal, bit for bit", flush=True)
    print(f"{program}: {kills} kills, {runs} runs, all equal to the undisturbed one")


def count_bad_ends(runs: int) -> int:
    """Start short runs of two processes. Returns the number of runs that report a failure."""
    bad = 0
    for number in range(runs):
        with tempfile.TemporaryDirectory() as folder:
            process = start(("--max-steps", "2", "--save", "none"), Path(folder) / "run", "two-processes")
            _, errors = process.communicate()
            if process.returncode:
                bad += 1
                print(f"run {number + 1} ended with {process.returncode}: {errors[-500:]}", flush=True)
    return bad


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", choices=PROGRAMS, default="train")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--max-steps", help="of each run, for more kills in less time")
    parser.add_argument("--ends", type=int, metavar="RUNS", help="only count the short runs that end in a failure")
    args = parser.parse_args()
    if args.ends:
        print(f"{args.ends} short runs of two processes, {count_bad_ends(args.ends)} of them ended in a failure")
    else:
        flags = (*COMMAND, "--max-steps", args.max_steps) if args.max_steps else COMMAND
        compare(args.program, flags, args.seed, args.kills)


if __name__ == "__main__":
    main()

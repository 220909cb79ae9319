"""Kill runs of the sample with SIGKILL at random moments, resume them, and compare them with an undisturbed run.

    python -m benchmarks.faults                     # 20 kills, a quarter of an hour on two cores
    python -m benchmarks.faults --kills 5 --seed 1

A checkpoint is written after each step, so that many of the kills hit a write. The option is SMART, whose teacher has
to survive, too. These must be equal bit for bit: model/, predictions/, and except for times the log and the metrics.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.common import ROOT

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


def start(flags, folder: Path) -> subprocess.Popen:
    """Start a new run, or resume the one in `folder`."""
    flags = ("--resume", folder) if (folder / "settings.json").exists() else (*flags, "--out", folder)
    command = [sys.executable, ROOT / "train.py", *flags]
    return subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def kill_until_done(flags, folder: Path, rng: random.Random, longest: float, kills: int) -> int:
    """Run to the end, with at most `kills` kills, each after 0 to `longest` seconds. Returns the number of kills."""
    done = 0
    while not (folder / "metrics.json").exists():
        process, delay = start(flags, folder), rng.uniform(0, longest)
        try:
            _, errors = process.communicate(timeout=delay if done < kills else None)
            if process.returncode:
                raise RuntimeError(errors)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            done += 1
            kept = sorted((folder / "checkpoint").glob("*-step*"))
            where = kept[-1].name.split("-")[1].replace("step", "step ") if kept else "the start"
            writing = ", during a write" if (folder / "checkpoint" / ".new").exists() else ""
            print(f"killed after {delay:.1f} s{writing}; continues from {where}", flush=True)
    return done


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng, left = random.Random(args.seed), args.kills
    with tempfile.TemporaryDirectory() as folder:
        began, runs = time.monotonic(), 0
        kill_until_done(COMMAND, Path(folder) / "undisturbed", rng, 0, kills=0)
        length = time.monotonic() - began
        expected = results(Path(folder) / "undisturbed")
        print(f"undisturbed: {length:.0f} s, {len(expected) - 2} files in model/ and predictions/", flush=True)
        while left:
            runs += 1
            disturbed = Path(folder) / f"run{runs}"
            left -= kill_until_done(COMMAND, disturbed, rng, length, left)
            actual = results(disturbed)
            different = [name for name in expected if actual.get(name) != expected[name]]
            assert actual.keys() == expected.keys() and not different, f"run {runs}: {different} differ"
            print(f"run {runs}: equal, bit for bit", flush=True)
        print(f"{args.kills} kills, {runs} runs, all equal to the undisturbed one")


if __name__ == "__main__":
    main()

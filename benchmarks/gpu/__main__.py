"""Speed, memory and waits on a GPU, in at most eight minutes. Needs no download and no data.

    python -m benchmarks.gpu                                # writes benchmarks/results/gpu.md
    python -m benchmarks.gpu --model $MODEL --data $DATA    # a real model in place of BERT-base, and RTE's own text
    python -m benchmarks.gpu --tiny --device cpu            # tries every section; its numbers mean nothing

Models have random weights in the shapes of BERT-base and BERT-large. The texts are made up of words of the sample's
vocabulary, with the lengths of RTE's pairs, or all 128 tokens long. All steps are those of the training loop that
train.py runs, with its log. A section that ran out of time or failed says so.
"""

import gc
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.common import ROOT
from benchmarks.gpu.at_once import runs_at_once
from benchmarks.gpu.methods import activity, costs, waits
from benchmarks.gpu.training import compared_with_transformers, half_precision, matrix_rate, other_precisions
from benchmarks.gpu.work import FULL, TINY, Rows, Work
from benchmarks.optimizer_speed import median_seconds
from minbert import __version__
from minbert.command_line import Parser
from minbert.errors import InputError, first_line
from minbert.files import write_text
from minbert.training.runtime import choose_device

SECONDS = 400  # no row is begun later, so that the last row ends within eight minutes


def machine(work: Work) -> Rows:
    """The device and the versions."""
    yield f"- device: {device_name(work.device)}"
    yield f"- {os.cpu_count()} CPU cores ({platform.machine()}), {torch.get_num_threads()} threads"
    yield f"- Python {platform.python_version()}, torch {torch.__version__}, minbert {__version__}"
    size, rate = work.scale.matrix, matrix_rate(work.device, work.scale.matrix, work.half)
    yield f"- product of two {work.half} matrices of {size:,} rows and columns: {rate / 1e12:.1f} TFLOP/s"


def device_name(device: torch.device) -> str:
    """NVIDIA H100 80GB HBM3, 79.2 GiB, driver 570.1, CUDA 12.8"""
    if device.type != "cuda":
        return device.type
    memory = torch.cuda.get_device_properties(device).total_memory / 2**30
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        driver = subprocess.run(query, capture_output=True, text=True, check=True).stdout.splitlines()[0]
    except (OSError, subprocess.CalledProcessError):
        driver = "unknown"
    return f"{torch.cuda.get_device_name(device)}, {memory:.1f} GiB, driver {driver}, CUDA {torch.version.cuda}"


def optimizers(work: Work) -> Rows:
    """AdamW's step on the parameters of the largest model, compared with torch's implementations."""
    name, config = list(work.models.items())[-1]
    yield f"| AdamW, {name} | time of a step | minbert's time / this time |\n|---|---|---|"
    medians = median_seconds(config, work.device, rounds=10 * work.scale.rounds)
    for optimizer, seconds in medians.items():
        yield f"| {optimizer} | {seconds * 1e3:.2f} ms | {medians['minbert'] / seconds:.2f} |"


SECTIONS: dict[str, Callable[[Work], Rows]] = {
    "Machine": machine,
    "Training in half precision": half_precision,
    "Compared with transformers": compared_with_transformers,
    "Several runs at once": runs_at_once,
    "What each option costs": costs,
    "Synchronisations": waits,
    "Kernels and idle time": activity,
    "The optimizer": optimizers,
    "Training in other precisions": other_precisions,
}


def report(work: Work, command: str, seconds: float) -> Rows:
    """The lines of the report, each as soon as it is known. No row is begun later than after `seconds` seconds."""
    end = time.monotonic() + seconds
    yield "# Speed on a GPU" if work.scale is FULL else "# The form of the report on a GPU: numbers without a meaning"
    yield f"\n`{command}`, {time.strftime('%Y-%m-%d')}"
    for title, section in SECTIONS.items():
        yield f"\n## {title}\n\n{section.__doc__}\n"
        try:
            yield from until(end, section(work))
        except Exception as error:  # not enough memory, for example: the other sections do not suffer
            yield f"\nThe rest of this section failed: {type(error).__name__}: {first_line(error)}"
        gc.collect()
        if work.device.type == "cuda":
            torch.cuda.empty_cache()


def until(end: float, rows: Rows) -> Rows:
    """The rows that begin before the time `end`."""
    while time.monotonic() < end:
        row = next(rows, None)
        if row is None:
            return
        yield row
    yield "\nThe rest of this section was not measured: the time was over."


def main(argv: list[str] | None = None) -> int:
    parser = Parser(description=__doc__)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--tiny", action="store_true", help="very small models, few steps")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--out", type=Path, help="default: benchmarks/results/gpu.md, or gpu-tiny.md with --tiny")
    try:
        args = parser.parse_args(argv)
        if (args.model is None) != (args.data is None):
            raise InputError("--model and --data belong together")
        device = choose_device(args.device)
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    work = Work(
        torch.device("cuda", 0) if device.type == "cuda" else device,
        TINY if args.tiny else FULL,
        args.model,
        args.data,
    )
    out = args.out or ROOT / "benchmarks" / "results" / ("gpu-tiny.md" if args.tiny else "gpu.md")
    command = " ".join(["python -m benchmarks.gpu", *(sys.argv[1:] if argv is None else argv)])
    out.parent.mkdir(parents=True, exist_ok=True)
    text = ""
    for line in report(work, command, SECONDS):
        print(line, flush=True)
        text += line + "\n"
        write_text(out, text)  # each time, because a machine that is lent may be taken away
    return 0


if __name__ == "__main__":
    sys.exit(main())

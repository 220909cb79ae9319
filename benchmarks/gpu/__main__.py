"""Speed, memory and waits on a GPU, in at most eight minutes. Needs no download and no data.

    python -m benchmarks.gpu                                # writes benchmarks/results/gpu.md
    python -m benchmarks.gpu --model $MODEL --data $DATA    # a real model in place of BERT-base, and RTE's own text
    python -m benchmarks.gpu --tiny --device cpu            # tries every section; its numbers mean nothing

Models have random weights in the shapes of BERT-base and BERT-large. The texts are made up of words of the sample's
vocabulary, with the lengths of RTE's pairs, or all 128 tokens long. All steps are those of the training loop that
train.py runs, with its log. Sections that the time does not suffice for say so.
"""

import argparse
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from benchmarks.common import ROOT
from benchmarks.gpu.at_once import runs_at_once
from benchmarks.gpu.methods import activity, costs, waits
from benchmarks.gpu.training import compared_with_transformers, matrix_rate, training
from benchmarks.gpu.work import FULL, TINY, Work
from benchmarks.optimizer_speed import median_seconds
from minbert import __version__
from minbert.training.runtime import choose_device

SECONDS = 8 * 60


def machine(work: Work) -> Iterator[str]:
    """The device and the versions."""
    yield f"- device: {device_name(work.device)}"
    yield f"- {os.cpu_count()} CPU cores ({platform.machine()}), {torch.get_num_threads()} threads"
    yield f"- Python {platform.python_version()}, torch {torch.__version__}, minbert {__version__}"
    rate = matrix_rate(work.device, work.scale.matrix)
    yield f"- product of two bf16 matrices of {work.scale.matrix:,} rows and columns: {rate / 1e12:.1f} TFLOP/s"


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


def optimizers(work: Work) -> Iterator[str]:
    """AdamW's step on the parameters of the largest model."""
    name, config = list(work.models.items())[-1]
    yield f"| AdamW, {name} | time of a step | minbert takes |"
    yield "|---|---|---|"
    medians = median_seconds(config, work.device, rounds=10 * work.scale.rounds)
    for optimizer, seconds in medians.items():
        yield f"| {optimizer} | {seconds * 1e3:.2f} ms | {medians['minbert'] / seconds:.2f} times as long |"


SECTIONS: dict[str, Callable[[Work], Iterator[str]]] = {
    "Machine": machine,
    "Training in bf16": lambda work: training(work, ("bf16",)),
    "Compared with transformers": compared_with_transformers,
    "What each option costs": costs,
    "Waits for the device": waits,
    "Launches and idle time": activity,
    "The optimizer": optimizers,
    "Several runs at once": runs_at_once,
    "Training in fp32 (with TF32) and in fp16": lambda work: training(work, ("fp32", "fp16")),
}


def report(work: Work, command: str, seconds: float) -> Iterator[str]:
    """The lines of the report, each as soon as it is known. No row is begun after so many seconds."""
    start = time.monotonic()
    yield "# Speed on a GPU" if work.scale is FULL else "# The form of the report on a GPU: numbers without a meaning"
    yield f"\n`{command}`, {time.strftime('%Y-%m-%d')}"
    for title, section in SECTIONS.items():
        yield f"\n## {title}\n"
        if section.__doc__:
            yield f"{section.__doc__}\n"
        for line in section(work):
            yield line
            if time.monotonic() - start > seconds:
                yield f"\nThe rest was not measured: {seconds:.0f} seconds had passed."
                break


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--tiny", action="store_true", help="very small models, few steps")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--out", type=Path, help="default: benchmarks/results/gpu.md, or gpu-tiny.md with --tiny")
    args = parser.parse_args(argv)
    if (args.model is None) != (args.data is None):
        parser.error("--model and --data belong together")
    device, scale = choose_device(args.device), TINY if args.tiny else FULL
    work = Work(torch.device("cuda", 0) if device.type == "cuda" else device, scale, args.model, args.data)
    out = args.out or ROOT / "benchmarks" / "results" / ("gpu-tiny.md" if args.tiny else "gpu.md")
    command = " ".join(["python -m benchmarks.gpu", *(sys.argv[1:] if argv is None else argv)])
    lines = []
    for line in report(work, command, SECONDS):
        print(line, flush=True)
        lines.append(line)
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(out.name + ".new")
    temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
    temporary.replace(out)


if __name__ == "__main__":
    main()

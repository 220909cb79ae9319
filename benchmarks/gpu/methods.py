"""What each method costs, where the program waits for the device, and how busy the device is."""

import statistics
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.gpu.work import Trainer, Work
from regularizers import OPTIONS, build

Rows = Iterator[str]
LENGTHS = "as in RTE"


def costs(work: Work) -> Rows:
    """Time and peak memory of every option as a multiple of plain fine-tuning in the same precision."""
    yield "| option | precision | time per step | peak memory |"
    yield "|---|---|---|---|"
    plain = {precision: warmed_up(work, "finetune", precision) for precision in ("bf16", "fp32")}
    for option in OPTIONS:
        precision = precision_of(option)
        base, base_peak = plain[precision]
        trainer, peak = warmed_up(work, option, precision)
        ratios = []
        for _ in range(work.scale.rounds):
            seconds = [each.train(LENGTHS, min(work.scale.batch_sizes))["seconds"] for each in (base, trainer)]
            ratios.append(seconds[1] / seconds[0])
        memory = f"{peak / base_peak:.2f}" if base_peak else "-"
        yield f"| {option} | {precision} | {statistics.median(ratios):.2f} | {memory} |"


def precision_of(option: str) -> str:
    """What --precision auto gives on a GPU with bf16."""
    return "fp32" if build(option).fp32 else "bf16"


def warmed_up(work: Work, option: str, precision: str) -> tuple[Trainer, int]:
    """A trainer of the first model after its first steps, and their peak memory in bytes: on a GPU, else 0."""
    on_gpu, held = work.device.type == "cuda", 0
    if on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(work.device)
        held = torch.cuda.memory_allocated(work.device)  # by other trainers
    trainer = Trainer(work, next(iter(work.models)), option, precision)
    trainer.warm_up(LENGTHS, min(work.scale.batch_sizes))
    return trainer, torch.cuda.max_memory_allocated(work.device) - held if on_gpu else 0


def waits(work: Work) -> Rows:
    """Where the program waits for the device in some steps of each option, by the line of the code, as torch warns."""
    yield "| option | precision | waits a step, without the log's | where |"
    yield "|---|---|---|---|"
    for option, precision in [*((name, precision_of(name)) for name in OPTIONS), ("finetune", "fp16")]:
        trainer, _ = warmed_up(work, option, precision)
        yield f"| {option} | {precision} | {found_waits(work, trainer)} |"


def found_waits(work: Work, trainer: Trainer) -> str:
    """number a step | places"""
    if work.device.type != "cuda":
        return "- | -"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            steps = trainer.train(LENGTHS, min(work.scale.batch_sizes))["steps"]
        finally:
            torch.cuda.set_sync_debug_mode("default")
    lines = [f"{Path(w.filename).name}:{w.lineno}" for w in caught if "synchroniz" in str(w.message)]
    places = Counter(line for line in lines if not line.startswith("log.py"))
    where = ", ".join(f"{place} ({count} times)" for place, count in places.items())
    return f"{places.total() / steps:.2f} | {where or 'nowhere'}"


def activity(work: Work) -> Rows:
    """Launches per step, and the share of the time in which the GPU computes nothing, by torch's profiler."""
    yield "| model | layers | option | launches a step | the GPU is idle |"
    yield "|---|---|---|---|---|"
    batch_size = max(work.scale.batch_sizes)
    for model in work.models:
        for compiled, option in ((False, "finetune"), (True, "finetune"), (False, "smart"), (False, "mine")):
            if option != "finetune" and model != next(iter(work.models)):
                continue
            trainer = Trainer(work, model, option, precision_of(option), compiled)
            trainer.warm_up(LENGTHS, batch_size)
            launches, idle = profiled(work, trainer, batch_size)
            layers = "compiled" if compiled else "eager"
            yield f"| {model} | {layers} | {option} | {launches} | {idle} |"


def profiled(work: Work, trainer: Trainer, batch_size: int) -> tuple[str, str]:
    """(launches a step, idle share) of some steps."""
    if work.device.type != "cuda":
        return "-", "-"
    with profile(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU]) as profiler:
        steps = trainer.train(LENGTHS, batch_size, steps=10)["steps"]
    kernels = sorted(
        (event.time_range.start, event.time_range.end)
        for event in profiler.events()
        if event.device_type == torch.autograd.DeviceType.CUDA
    )
    if not kernels:
        return "-", "-"
    busy, end = 0.0, kernels[0][0]
    for start, stop in kernels:  # two of them may run at once
        busy += max(0.0, stop - max(start, end))
        end = max(end, stop)
    return f"{len(kernels) / steps:.0f}", f"{1 - busy / (end - kernels[0][0]):.1%}"

"""What each method costs, where the program waits for the device, and how busy the device is."""

import gc
import statistics
import warnings
from collections import Counter
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.gpu.work import AS_IN_RTE, Rows, Trainer, Work
from regularizers import OPTIONS, build


def costs(work: Work) -> Rows:
    """Time and peak memory of every option relative to plain fine-tuning in the same precision (fp32: without TF32)."""
    yield "| option | precision | time per step | peak memory |\n|---|---|---|---|"
    plain = {precision: warmed_up(work, "finetune", precision) for precision in (work.half, "fp32")}
    for option in OPTIONS:
        precision = precision_of(work, option)
        base, base_peak = plain[precision]
        trainer, peak = warmed_up(work, option, precision)
        memory = f"{peak / base_peak:.2f}" if base_peak else "-"
        yield f"| {option} | {precision} | {time_ratio(work, trainer, base):.2f} | {memory} |"


def time_ratio(work: Work, trainer: Trainer, base: Trainer) -> float:
    """The time of a trainer relative to another: the median over rounds in which they take turns."""
    ratios = []
    for _ in range(work.scale.rounds):
        base_seconds, seconds = (t.train(AS_IN_RTE, min(work.scale.batch_sizes))["seconds"] for t in (base, trainer))
        ratios.append(seconds / base_seconds)
    return statistics.median(ratios)


def precision_of(work: Work, option: str) -> str:
    """What --precision auto gives."""
    return "fp32" if build(option).fp32 else work.half


def warmed_up(work: Work, option: str, precision: str) -> tuple[Trainer, int]:
    """A trainer of the first model after its first steps, and their peak memory in bytes: on a GPU, else 0."""
    on_gpu, held = work.device.type == "cuda", 0
    if on_gpu:
        gc.collect()  # a compiled model is a reference cycle
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(work.device)
        held = torch.cuda.memory_allocated(work.device)  # by other trainers
    trainer = Trainer(work, next(iter(work.models)), option, precision, tf32=False)
    trainer.warm_up(AS_IN_RTE, min(work.scale.batch_sizes))
    return trainer, torch.cuda.max_memory_allocated(work.device) - held if on_gpu else 0


def waits(work: Work) -> Rows:
    """Where a step synchronises with the device, by the line of the code, as torch warns. Logging is left out."""
    yield "| option | precision | synchronisations per step | where |\n|---|---|---|---|"
    for option, precision in dict.fromkeys([*((o, precision_of(work, o)) for o in OPTIONS), ("finetune", "fp16")]):
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
            steps = trainer.train(AS_IN_RTE, min(work.scale.batch_sizes))["steps"]
        finally:
            torch.cuda.set_sync_debug_mode("default")
    lines = [f"{Path(w.filename).name}:{w.lineno}" for w in caught if "called a synchronizing" in str(w.message)]
    places = Counter(line for line in lines if not line.startswith("log.py"))
    where = ", ".join(f"{place} ({count} times)" for place, count in places.items())
    return f"{places.total() / steps:.2f} | {where or 'nowhere'}"


def activity(work: Work) -> Rows:
    """Ten steps with torch's profiler, the log and the allocation of the optimizer's state included."""
    yield "| model | layers | option | kernels per step | GPU idle |\n|---|---|---|---|---|"
    first = next(iter(work.models))
    for model in work.models:
        for compiled, option in ((False, "finetune"), (True, "finetune"), (False, "smart"), (False, "mine")):
            if option == "finetune" or model == first:
                trainer = Trainer(work, model, option, precision_of(work, option), compiled)
                layers = "compiled" if compiled else "eager"
                yield f"| {model} | {layers} | {option} | {profiled(work, trainer)} |"


def profiled(work: Work, trainer: Trainer) -> str:
    """kernels per step | idle share"""
    batch_size = max(work.scale.batch_sizes)
    trainer.warm_up(AS_IN_RTE, batch_size)
    if work.device.type != "cuda":
        return "- | -"
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:  # recording the CPU's side would slow it down
        steps = trainer.train(AS_IN_RTE, batch_size, steps=10)["steps"]
    on_gpu = [event for event in profiler.events() if event.device_type == torch.autograd.DeviceType.CUDA]
    # The optimizer marks its steps on the GPU's time line, too, gaps included. Such marks are not work.
    work_done = [event for event in on_gpu if not event.is_user_annotation]
    kernels = [event for event in work_done if not event.name.startswith(("Memcpy", "Memset"))]
    idle = idle_share([(event.time_range.start, event.time_range.end) for event in work_done])
    return f"{len(kernels) / steps:.0f} | {idle:.1%}"


def idle_share(intervals: list[tuple[float, float]]) -> float:
    """The share of the time between the first begin and the last end that no interval covers. They may overlap."""
    if not intervals:
        return 0.0
    intervals = sorted(intervals)
    first, covered = intervals[0][0], 0.0
    end = first
    for start, stop in intervals:
        covered += max(0.0, stop - max(start, end))
        end = max(end, stop)
    return 1 - covered / (end - first)

"""How the speed of several small runs on one device adds up: what a study with many seeds does."""

import multiprocessing

import torch

from benchmarks.gpu.work import AS_IN_RTE, SMALL, Rows, Scale, Trainer, Work

TRAININGS = 3  # of each process


def run(device: torch.device, scale: Scale, barrier, speeds) -> None:
    """One run, in a process of its own. All runs begin their timed steps together."""
    torch.set_num_threads(1)
    batch_size, trainer = min(scale.batch_sizes), Trainer(Work(device, scale), SMALL)
    trainer.warm_up(AS_IN_RTE, batch_size)
    barrier.wait()
    for _ in range(TRAININGS):
        speeds.put(trainer.train(AS_IN_RTE, batch_size)["examples_per_second"])


def runs_at_once(work: Work) -> Rows:
    """Runs of a model with the shape of all-MiniLM-L6-v2, each a process of its own."""
    yield "| runs at once | examples/s of all | relative to one run |\n|---|---|---|"
    context, one = multiprocessing.get_context("spawn"), None  # a forked process cannot use CUDA
    for number in work.scale.at_once:
        barrier, speeds = context.Barrier(number), context.Queue()
        arguments = work.device, work.scale, barrier, speeds
        processes = [context.Process(target=run, args=arguments, daemon=True) for _ in range(number)]
        try:
            for process in processes:
                process.start()
            total = sum(speeds.get(timeout=120) for _ in range(TRAININGS * number)) / TRAININGS
        finally:  # one that failed leaves the others at the barrier
            for process in processes:
                process.join(timeout=5)
                process.terminate()
        one = one or total
        yield f"| {number} | {total:.1f} | {total / one:.2f} |"

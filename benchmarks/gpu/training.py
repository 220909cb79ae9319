"""Training: examples/s, real tokens/s, and the share of the device's matrix rate; compared with transformers."""

import statistics
import time
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec

import torch

from benchmarks.gpu.work import Trainer, Work
from minbert.data.dataset import Dataset

Rows = Iterator[str]


@cache
def matrix_rate(device: torch.device, size: int) -> float:
    """Operations a second of the product of two large bf16 matrices: the best of ten."""
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    seconds = []
    for _ in range(12):
        wait(device)
        start = time.perf_counter()
        a @ b
        wait(device)
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / min(seconds[2:])


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def training(work: Work, precisions: tuple[str, ...]) -> Rows:
    """One row for each model, precision, compiled or not, batch size and lengths."""
    yield "| model | precision | layers | batch | lengths | examples/s | real tokens/s | share of the matrix rate |"
    yield "|---|---|---|---|---|---|---|---|"
    rate = matrix_rate(work.device, work.scale.matrix)
    for precision in precisions:
        for model in work.models:
            for compiled in (False, True):
                trainer = Trainer(work, model, precision=precision, compiled=compiled)
                for batch_size in work.scale.batch_sizes:
                    for lengths in work.scale.lengths:
                        trainer.warm_up(lengths, batch_size)
                        totals = trainer.train(lengths, batch_size)
                        operations = 6 * trainer.layer_parameters() * totals["tokens_per_second"]
                        yield (
                            f"| {model} | {precision} | {'compiled' if compiled else 'eager'} | {batch_size} | "
                            f"{lengths} | {totals['examples_per_second']:.1f} | {totals['tokens_per_second']:,.0f} | "
                            f"{operations / rate:.1%} |"
                        )


class Peer:
    """What a careful user of transformers would write: SDPA attention, autocast to bf16, torch's fused AdamW."""

    def __init__(self, work: Work, name: str):
        import transformers  # which may be missing

        torch.manual_seed(0)
        config = transformers.BertConfig(**vars(work.models[name]), num_labels=2, attn_implementation="sdpa")
        self.device, self.model = work.device, transformers.BertForSequenceClassification(config).to(work.device)

    def examples_per_second(self, dataset: Dataset, batches: list[list[int]]) -> float:
        from benchmarks.peer import peer_train

        wait(self.device)
        start = time.perf_counter()
        peer_train(self.model, dataset, batches, lr=1e-5, eps=1e-6, bf16=True, fused=True)
        wait(self.device)
        return sum(map(len, batches)) / (time.perf_counter() - start)


def compared_with_transformers(work: Work) -> Rows:
    """The same batches in bf16: in each round first transformers, then minbert eager and compiled."""
    if find_spec("transformers") is None:
        yield "transformers is not installed: not measured."
        return
    yield "| model | batch | lengths | eager minbert / transformers | compiled minbert / transformers |"
    yield "|---|---|---|---|---|"
    batch_size = max(work.scale.batch_sizes)
    for name in work.models:
        peer, ours = Peer(work, name), [Trainer(work, name, compiled=compiled) for compiled in (False, True)]
        for lengths in work.scale.lengths:
            dataset = work.dataset(lengths)
            batches = work.batches(dataset, batch_size)
            peer.examples_per_second(dataset, batches[:3])
            for trainer in ours:
                trainer.warm_up(lengths, batch_size)
            ratios: list[list[float]] = [[], []]
            for _ in range(work.scale.rounds):
                speed = peer.examples_per_second(dataset, batches)
                for trainer, of_trainer in zip(ours, ratios):
                    of_trainer.append(trainer.train(lengths, batch_size)["examples_per_second"] / speed)
            medians = " | ".join(f"{statistics.median(of_trainer):.2f}" for of_trainer in ratios)
            yield f"| {name} | {batch_size} | {lengths} | {medians} |"

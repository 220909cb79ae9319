"""Training: examples/s, real tokens/s, and the share of the device's matrix rate; compared with transformers."""

import statistics
import time
from functools import cache
from importlib.util import find_spec

import torch

from benchmarks.gpu.work import Rows, Trainer, Work
from minbert.data.dataset import Dataset
from minbert.training.runtime import DTYPES, Runtime


@cache
def matrix_rate(device: torch.device, size: int, precision: str) -> float:
    """Operations a second of the product of two large matrices in half precision: the best of ten."""
    runtime, seconds = Runtime(device), []
    a, b = (torch.randn(size, size, device=device, dtype=DTYPES[precision]) for _ in range(2))
    for _ in range(12):  # the first two warm up
        runtime.synchronize()
        start = time.perf_counter()
        a @ b
        runtime.synchronize()
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / min(seconds[2:])


def half_precision(work: Work) -> Rows:
    """The half precision of --precision auto on this device."""
    return training(work, (work.half,))


def other_precisions(work: Work) -> Rows:
    """fp32 has matrix products in TF32 where the GPU has it."""
    return training(work, tuple(precision for precision in ("fp32", "bf16", "fp16") if precision != work.half))


def training(work: Work, precisions: tuple[str, ...]) -> Rows:
    """One row for each model, precision, compiled or not, batch size and lengths."""
    yield (
        "| model | precision | layers | batch | lengths | examples/s | real tokens/s | MFU |\n"
        "|---|---|---|---|---|---|---|---|"
    )
    rate = matrix_rate(work.device, work.scale.matrix, work.half)
    for precision in precisions:
        for model in work.models:
            for compiled in (False, True):
                trainer = Trainer(work, model, precision=precision, compiled=compiled)
                for batch_size in work.scale.batch_sizes:
                    for lengths in work.scale.lengths:
                        trainer.warm_up(lengths, batch_size)
                        totals = trainer.train(lengths, batch_size)
                        # Per token and parameter of a matrix: one multiplication and one addition forward, two of both
                        # backward.
                        operations = 6 * trainer.layer_parameters() * totals["tokens_per_second"]
                        yield (
                            f"| {model} | {precision} | {'compiled' if compiled else 'eager'} | {batch_size} | "
                            f"{lengths} | {totals['examples_per_second']:.1f} | {totals['tokens_per_second']:,.0f} | "
                            f"{operations / rate:.1%} |"
                        )


class Peer:
    """What a careful user of transformers would write: SDPA attention, autocast, torch's fused AdamW."""

    def __init__(self, work: Work, name: str):
        import transformers  # which may be missing

        torch.manual_seed(0)
        config = transformers.BertConfig(**vars(work.models[name]), num_labels=2, attn_implementation="sdpa")
        self.runtime, self.precision = Runtime(work.device), work.half
        self.model = transformers.BertForSequenceClassification(config).to(work.device)

    def examples_per_second(self, dataset: Dataset, batches: list[list[int]]) -> float:
        from benchmarks.peer import peer_train

        self.runtime.synchronize()
        start = time.perf_counter()
        peer_train(self.model, dataset, batches, lr=1e-5, eps=1e-6, precision=self.precision, fused=True)
        self.runtime.synchronize()
        return sum(map(len, batches)) / (time.perf_counter() - start)


def compared_with_transformers(work: Work) -> Rows:
    """The same batches in half precision: in each round first transformers, then minbert eager and compiled."""
    if find_spec("transformers") is None:
        yield "transformers is not installed: not measured."
        return
    yield (
        "| model | batch | lengths | eager minbert / transformers | compiled minbert / transformers |\n"
        "|---|---|---|---|---|"
    )
    for name in work.models:
        peer, ours = Peer(work, name), [Trainer(work, name, compiled=compiled) for compiled in (False, True)]
        for batch_size in reversed(work.scale.batch_sizes):
            for lengths in work.scale.lengths:
                ratios = speed_ratios(work, peer, ours, lengths, batch_size)
                yield f"| {name} | {batch_size} | {lengths} | {' | '.join(f'{ratio:.2f}' for ratio in ratios)} |"


def speed_ratios(work: Work, peer: Peer, ours: list[Trainer], lengths: str, batch_size: int) -> list[float]:
    """How many times as fast as the peer each trainer is: the median over the rounds."""
    dataset = work.dataset(lengths)
    batches = work.batches(dataset, batch_size)
    peer.examples_per_second(dataset, batches)
    for trainer in ours:
        trainer.warm_up(lengths, batch_size)
    ratios: list[list[float]] = [[] for _ in ours]
    for _ in range(work.scale.rounds):
        speed = peer.examples_per_second(dataset, batches)
        for trainer, of_trainer in zip(ours, ratios):
            of_trainer.append(trainer.train(lengths, batch_size)["examples_per_second"] / speed)
    return [statistics.median(of_trainer) for of_trainer in ratios]

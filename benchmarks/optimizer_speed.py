"""The time of AdamW's step compared with torch.optim.AdamW: fused, foreach, and one tensor after the other.

    python -m benchmarks.optimizer_speed --model $MODEL          # a folder with config.json; default: BERT-base

Twenty rounds. In each the optimizers take one step in turn, on copies of the same parameters and gradients of a BERT.
"""

import argparse
import statistics
import time
from pathlib import Path

import torch

from minbert import AdamW, BertConfig, BertModel
from minbert.training.runtime import Runtime, setup


def median_seconds(config: BertConfig, device: torch.device, rounds: int = 20) -> dict[str, float]:
    """The median time of a step of each optimizer, by its name."""
    start, options = BertModel(config).to(device), {"lr": 1e-5, "weight_decay": 0.01}
    contestants = {
        "minbert": lambda params: AdamW(params, **options),
        "torch fused": lambda params: torch.optim.AdamW(params, fused=True, **options),
        "torch foreach": lambda params: torch.optim.AdamW(params, foreach=True, **options),
        "torch loop": lambda params: torch.optim.AdamW(params, foreach=False, **options),
    }
    runtime, optimizers = Runtime(device), {}
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for name, make in contestants.items():
        params = [torch.nn.Parameter(p.detach().clone()) for p in start.parameters()]
        for p in params:
            p.grad = torch.randn_like(p)
        optimizers[name] = make(params)
    for round_ in range(rounds + 2):
        for name, optimizer in optimizers.items():
            runtime.synchronize()
            begun = time.perf_counter()
            optimizer.step()
            runtime.synchronize()
            if round_ >= 2:  # the first two rounds allocate the state
                times[name].append(time.perf_counter() - begun)
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model")
    parser.add_argument("--rounds", type=int, default=20)
    args = parser.parse_args()
    device = setup().device
    config = BertConfig.from_json(Path(args.model) / "config.json") if args.model else BertConfig()
    medians = median_seconds(config, device, args.rounds)
    for name, median in medians.items():
        ratio = medians["minbert"] / median
        print(f"{name:20} {median * 1e3:8.1f} ms  minbert's time / this time: {ratio:.2f}  ({device})")


if __name__ == "__main__":
    main()

"""The time of AdamW's step compared with torch.optim.AdamW, with foreach and without, on the parameters of a BERT.

    python -m benchmarks.optimizer_speed --model $MODEL          # a folder with config.json; default: BERT-base

Twenty rounds. In each the three optimizers take one step in turn, on copies of the same parameters and gradients.
"""

import argparse
import statistics
import time
from pathlib import Path

import torch

from minbert import AdamW, BertConfig, BertModel
from minbert.training.runtime import setup


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model")
    parser.add_argument("--rounds", type=int, default=20)
    args = parser.parse_args()
    device = setup().device
    config = BertConfig.from_json(Path(args.model) / "config.json") if args.model else BertConfig()
    start = BertModel(config).to(device)
    options = {"lr": 1e-5, "weight_decay": 0.01}
    contestants = {
        "minbert": lambda params: AdamW(params, **options),
        "torch foreach=True": lambda params: torch.optim.AdamW(params, foreach=True, **options),
        "torch foreach=False": lambda params: torch.optim.AdamW(params, foreach=False, **options),
    }
    optimizers, times = {}, {name: [] for name in contestants}
    for name, make in contestants.items():
        params = [torch.nn.Parameter(p.detach().clone()) for p in start.parameters()]
        for p in params:
            p.grad = torch.randn_like(p)
        optimizers[name] = make(params)
    for round_ in range(args.rounds + 2):
        for name, optimizer in optimizers.items():
            if device.type == "cuda":
                torch.cuda.synchronize()
            begun = time.perf_counter()
            optimizer.step()
            if device.type == "cuda":
                torch.cuda.synchronize()
            if round_ >= 2:  # the first two rounds allocate the state
                times[name].append(time.perf_counter() - begun)
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, median in medians.items():
        print(f"{name:20} {median * 1e3:8.1f} ms")
    ratio = medians["minbert"] / min(medians["torch foreach=True"], medians["torch foreach=False"])
    size = sum(p.numel() for p in start.parameters())
    print(f"minbert / faster of torch's: {ratio:.2f}  ({device}, {size:,} parameters)")


if __name__ == "__main__":
    main()

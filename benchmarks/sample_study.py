"""Studies on the embedded sample, many seeds each; results in sample/README.md.

    python -m benchmarks.sample_study pretraining       # the committed weights compared with random ones
    python -m benchmarks.sample_study few-samples       # bias correction and length of training, 20 seeds
    python -m benchmarks.sample_study options           # every option where plain fine-tuning overfits, 20 seeds
    python -m benchmarks.sample_study options --rows mine "smart smart.mu=0"

Each row is a setting: mean, standard deviation (n - 1), lowest and highest dev accuracy on RTE, and how many runs
failed (not better than the majority class, or one class for all examples; Mosbach et al. 2021).
"""

import argparse
import statistics
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

import sample
from benchmarks.laboratory import Laboratory, make_parser
from minbert.bert import BertModel
from minbert.classifier import SentenceModel
from minbert.config import BertConfig
from minbert.data.tasks import TASKS
from minbert.tokenizer import load_tokenizer
from minbert.weights import save_model
from regularizers import OPTIONS, build

HEADER = "| setting | mean | standard deviation | lowest | highest | failed runs |\n|---|---|---|---|---|---|"


def laboratory(flags: str) -> Laboratory:
    return Laboratory(make_parser("").parse_args(flags.split()))


def run_seeds(name: str, seeds: int, run: Callable[[int], dict]) -> list[float]:
    """Run a setting with all seeds, print its row without a line end, and return its scores."""
    results = [run(seed) for seed in range(seeds)]
    scores, failed = [result["score"] for result in results], sum(result["failed"] for result in results)
    numbers = (statistics.mean(scores), statistics.stdev(scores), min(scores), max(scores))
    print(f"| {name} | {' | '.join(f'{number:.3f}' for number in numbers)} | {failed} of {seeds} |", end="", flush=True)
    return scores


def run_option(lab: Laboratory, row: str, seed: int, **changes) -> dict:
    """The dev scores of one run. A row is an option, and its settings after it."""
    option, *settings = row.split()
    return lab.fine_tune(build(option, settings), seed, **changes)[1]


def print_row(name: str, seeds: int, flags: str, **changes) -> None:
    lab = laboratory(flags)
    run_seeds(name, seeds, partial(run_option, lab, "finetune", **changes))
    print(flush=True)


def random_weights(folder: Path) -> str:
    """Save a model with the architecture and the tokenizer of the sample's, and fresh weights. Returns its folder."""
    torch.manual_seed(0)
    model = SentenceModel(BertModel(BertConfig.from_json(sample.MODEL / "config.json")), [TASKS["rte"]])
    save_model(model, folder)
    load_tokenizer(sample.MODEL).save(folder)
    return str(folder)


def pretraining() -> None:
    print(HEADER)
    print_row(f"pretrained, lr {sample.RECIPE['lr']:g}", 5, "")
    with tempfile.TemporaryDirectory() as folder:
        model = random_weights(Path(folder) / "random")
        for lr in ("1e-4", "5e-4", "1e-3"):
            print_row(f"random weights, lr {lr}", 5, f"--model {model} --lr {lr}")


FEW_SAMPLES = (  # learning rate, bias correction, epochs
    ("1e-3", False, 3),
    ("1e-3", True, 3),
    ("5e-4", False, 3),
    ("5e-4", True, 3),
    ("5e-4", False, 8),
    ("5e-4", True, 8),
)


def few_samples() -> None:
    print(HEADER)
    for lr, corrected, epochs in FEW_SAMPLES:
        name = f"lr {lr}, {'with' if corrected else 'no'} bias correction, {epochs} epochs"
        flags = f"--train-size 250 --batch-size 16 --lr {lr} --epochs {epochs}"
        print_row(name, 20, flags, bias_correction=corrected)


def options(rows: list[str]) -> None:
    """Fine-tuning on 250 examples with a large rate overfits: a setting in which methods differ."""
    print(HEADER.replace("failed runs |", "failed runs | difference | p |") + "---|---|")
    lab = laboratory("--train-size 250 --lr 1e-3 --epochs 8")
    plain = run_seeds("finetune", 20, partial(run_option, lab, "finetune"))
    print(" | |")
    for row in rows or [*(name for name in OPTIONS if name != "finetune"), "smart smart.mu=0", "smart smart.weight=0"]:
        scores = run_seeds(row, 20, partial(run_option, lab, row))
        differences = [one - other for one, other in zip(scores, plain, strict=True)]
        print(f" {statistics.mean(differences):+.3f} | {paired_p_value(differences):.4f} |", flush=True)


def paired_p_value(differences: list[float], draws: int = 20_000) -> float:
    """The share of random signs of the differences whose mean is at least as far from 0: a two-sided permutation test.

    Two runs with the same seed have the same head and the same order of the examples, so they make a pair.
    """
    values, generator = torch.tensor(differences, dtype=torch.float64), torch.Generator().manual_seed(0)
    signs = 2 * torch.randint(2, (draws, len(values)), generator=generator) - 1
    as_far = (signs * values).mean(1).abs() >= values.mean().abs() - 1e-12
    return (as_far.sum().item() + 1) / (draws + 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=["pretraining", "few-samples", "options"])
    parser.add_argument("--rows", nargs="+", default=[], help="only these options, with their settings")
    args = parser.parse_args()
    if args.study == "options":
        options(args.rows)
    else:
        {"pretraining": pretraining, "few-samples": few_samples}[args.study]()


if __name__ == "__main__":
    main()

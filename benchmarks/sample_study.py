"""Studies on the embedded sample, many seeds each; results in sample/README.md.

    python -m benchmarks.sample_study pretraining       # the committed weights beside random ones
    python -m benchmarks.sample_study few-samples       # bias correction and length of training, 20 seeds
    python -m benchmarks.sample_study options           # every option of train.py on 500 examples, 5 seeds

Each row is a setting: mean, standard deviation (n - 1), lowest and highest dev score, and how many runs failed (not
better than the majority class, or one class for all examples; Mosbach et al. 2021).
"""

import argparse
import statistics
import tempfile
from pathlib import Path

import torch

import sample
from benchmarks.common import train_run
from minbert.bert import BertModel
from minbert.classifier import SentenceModel
from minbert.config import BertConfig
from minbert.data.tasks import TASKS
from minbert.tokenizer import load_tokenizer
from minbert.weights import save_model
from regularizers import OPTIONS


def random_weights(folder: Path) -> str:
    """Save a model with the architecture and the tokenizer of the sample's, and fresh weights. Returns its folder."""
    torch.manual_seed(0)
    model = SentenceModel(BertModel(BertConfig.from_json(sample.MODEL / "config.json")), [TASKS["rte"]])
    save_model(model, folder)
    load_tokenizer(sample.MODEL).save(folder)
    return str(folder)


def print_row(name: str, seeds: int, *arguments: str) -> None:
    """Run a setting with all seeds, and print its row."""
    scores, failed = [], 0
    for seed in range(seeds):
        metrics = train_run(*arguments, "--seed", seed)
        scores.append(metrics["score"] or 0.0)  # None if a loss was not finite
        failed += metrics["failed"]
    numbers = (statistics.mean(scores), statistics.stdev(scores), min(scores), max(scores))
    print(f"| {name} | {' | '.join(f'{number:.3f}' for number in numbers)} | {failed} of {seeds} |", flush=True)


def pretraining() -> None:
    print_row(f"pretrained, lr {sample.RECIPE['lr']:g}", 5)
    with tempfile.TemporaryDirectory() as folder:
        model = random_weights(Path(folder) / "random")
        epochs = str(sample.RECIPE["epochs"])
        for lr in ("1e-4", "5e-4", "1e-3"):
            print_row(f"random, lr {lr}", 5, "--model", model, "--lr", lr, "--epochs", epochs)


FEW_SAMPLES = (  # learning rate, bias correction, epochs
    ("1e-3", False, "3"),
    ("1e-3", True, "3"),
    ("5e-4", False, "3"),
    ("5e-4", True, "3"),
    ("5e-4", False, "8"),
    ("5e-4", True, "8"),
)


def few_samples() -> None:
    for lr, corrected, epochs in FEW_SAMPLES:
        name = f"lr {lr}, {'with' if corrected else 'no'} bias correction, {epochs} epochs"
        correction = "--bias-correction" if corrected else "--no-bias-correction"
        few = ("--train-size", "250", "--batch-size", "16", "--lr", lr, correction, "--epochs", epochs)
        print_row(name, 20, *few)


def options() -> None:
    for option in OPTIONS:
        # R-Drop compares two draws of the dropout masks, and the sample's model has no dropout of its own.
        dropout = ("--dropout", "0.1") if option == "rdrop" else ()
        print_row(" ".join([option, *dropout]), 5, "--option", option, "--train-size", "500", *dropout)


STUDIES = {"pretraining": pretraining, "few-samples": few_samples, "options": options}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=list(STUDIES))
    args = parser.parse_args()
    print("| setting | mean | sd | lowest | highest | failed |\n|---|---|---|---|---|---|")
    STUDIES[args.study]()


if __name__ == "__main__":
    main()

"""Fine-tuning inside a benchmark's own process: for measures of the model itself, and for special methods."""

import argparse
import statistics
from collections.abc import Sequence

import torch

import sample
from benchmarks.common import no_scores
from minbert.bert import BertModel
from minbert.classifier import SentenceModel
from minbert.data.dataset import Dataset
from minbert.data.readers import read_examples, subset
from minbert.data.sampling import BatchSampler
from minbert.data.tasks import TASKS
from minbert.tokenizer import load_tokenizer
from minbert.training.evaluation import Evaluator
from minbert.training.loop import Objective, fit
from minbert.training.runtime import setup
from minbert.training.settings import Settings
from regularizers.base import Sum


def make_parser(description: str) -> argparse.ArgumentParser:
    """The flags of a Laboratory, and --seeds. The default is the embedded sample."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=sample.MODEL)
    parser.add_argument("--data", default=sample.DATA)
    parser.add_argument("--task", default="rte")
    parser.add_argument("--train-size", type=int)
    parser.add_argument("--lr", type=float, default=3e-4)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--max-length", type=int, default=256)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    return parser


class Laboratory:
    """One model and the data of one task. All passes run on the CPU in float32."""

    def __init__(self, args: argparse.Namespace):
        self.args, self.task, self.tokenizer = args, TASKS[args.task], load_tokenizer(args.model)
        self.train, self.dev = self.dataset("train", args.train_size), self.dataset("dev")

    def dataset(self, split: str, size: int | None = None) -> Dataset:
        """Examples of a split, `size` drawn at random and the same each time, or all of them."""
        examples = subset(read_examples(self.task, self.args.data, split), size)
        return Dataset(self.task, examples, self.tokenizer, self.args.max_length)

    def pretrained(self, seed: int) -> SentenceModel:
        """The pretrained model with a fresh head."""
        torch.manual_seed(seed)
        return SentenceModel(BertModel.from_pretrained(self.args.model), [self.task])

    def fine_tune(self, method: Sum, seed: int, **changes) -> tuple[SentenceModel, dict]:
        """A model that was trained with the method, and its dev scores. `changes` are fields of Settings."""
        args, model = self.args, self.pretrained(seed)
        method.attach_with_seed(model, seed)
        sampler = BatchSampler(self.train, args.batch_size, seed, args.epochs)
        lr = method.lr or args.lr  # some options want their own
        settings = Settings(lr=lr, warmup=0.1, batch_size=args.batch_size, seed=seed, data_seed=seed, **changes)
        runtime = setup("cpu", "fp32")
        fit(Objective(model, method), sampler, no_scores, settings, runtime)
        return model, Evaluator(model, {self.task.name: {"dev": self.dev}}, args.batch_size, runtime).scores("dev")


def spread(values: Sequence[float]) -> str:
    """mean ± standard deviation (n - 1)"""
    deviation = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.3f}{deviation}"

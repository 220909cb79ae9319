"""The work that is timed: models with random weights in published shapes, made-up text, and real training steps."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch

import sample
from benchmarks.common import FixedSteps, no_scores
from minbert.bert import BertModel
from minbert.classifier import SentenceModel
from minbert.config import BertConfig
from minbert.data.dataset import Dataset
from minbert.data.readers import Example, Examples, read_examples
from minbert.data.tasks import TASKS
from minbert.tokenizer import load_tokenizer
from minbert.training.inputs import COMPILED_ROUND_TO
from minbert.training.loop import Objective, fit
from minbert.training.runtime import Runtime, compile_layers, computes_bf16, set_backends
from minbert.training.settings import Settings
from regularizers import build

RTE = TASKS["rte"]
Rows = Iterator[str]  # lines of the report
# The lengths of RTE's 2,490 training pairs in tokens: each of these stands for a twentieth of them.
RTE_LENGTHS = (25, 31, 35, 38, 41, 44, 46, 48, 51, 54, 57, 61, 64, 69, 78, 93, 113, 128, 145, 179)
AS_IN_RTE, FIXED = "as in RTE", 128
LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
SMALL = "small"
MINILM = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536}


@dataclass(frozen=True)
class Scale:
    """How much is measured. The two instances are FULL and TINY."""

    models: dict[str, BertConfig]  # by name; the methods are measured on the first one
    small: BertConfig  # of the runs at once
    batch_sizes: tuple[int, int]
    lengths: dict[str, tuple[int, ...]]  # by name: the lengths of the texts in turn
    steps: int  # of each timed training
    rounds: int  # of alternated measurements
    matrix: int  # rows and columns of the product that gives the matrix rate
    at_once: tuple[int, ...]  # numbers of runs on one device
    backend: str  # of torch.compile


FULL = Scale(
    models={"BERT-base": BertConfig(), "BERT-large": BertConfig(**LARGE)},
    small=BertConfig(**MINILM),
    batch_sizes=(16, 32),
    lengths={AS_IN_RTE: RTE_LENGTHS, f"fixed {FIXED}": (FIXED,)},
    steps=30,
    rounds=3,
    matrix=8192,
    at_once=(1, 2, 4, 8),
    backend="inductor",
)
SMALLEST = BertConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64)
TINY = Scale(
    models={"tiny": SMALLEST},
    small=SMALLEST,
    batch_sizes=(8, 16),
    lengths={AS_IN_RTE: RTE_LENGTHS, "fixed 16": (16,)},
    steps=2,
    rounds=1,
    matrix=256,
    at_once=(1, 2),
    backend="aot_eager",
)


@dataclass
class Work:
    """What the sections measure with: a device, a scale, and with --model and --data a real model and real text."""

    device: torch.device
    scale: Scale
    model_folder: Path | None = None
    data: Path | None = None
    datasets: dict[tuple, Dataset] = field(default_factory=dict)

    @cached_property
    def tokenizer(self):
        return load_tokenizer(self.model_folder or sample.MODEL)

    @cached_property
    def models(self) -> dict[str, BertConfig]:
        """By name. A real model comes first, in place of BERT-base."""
        if self.model_folder is None:
            return self.scale.models
        config = BertConfig.from_json(self.model_folder / "config.json")
        return {self.model_folder.name: config, **dict(list(self.scale.models.items())[1:])}

    @cached_property
    def half(self) -> str:
        """The half precision of --precision auto on this GPU: fp16 if it does not compute in bf16 (a T4)."""
        return "fp16" if self.device.type == "cuda" and not computes_bf16(self.device) else "bf16"

    def dataset(self, lengths: str, compiled: bool = False) -> Dataset:
        """RTE, or as many made-up pairs as all steps need at the larger batch size."""
        key = lengths, compiled
        if key not in self.datasets:
            of_texts = self.scale.lengths[lengths]
            if self.data is not None and of_texts == RTE_LENGTHS:
                examples, longest = read_examples(RTE, self.data, "train"), 256
            else:
                number = self.scale.steps * max(self.scale.batch_sizes)
                examples, longest = Examples(Path("made-up"), self.made_up(of_texts, number), []), max(of_texts)
            round_to = COMPILED_ROUND_TO if compiled else 1
            longest = -(-longest // round_to) * round_to
            self.datasets[key] = Dataset(RTE, examples, self.tokenizer, longest, round_to)
        return self.datasets[key]

    def made_up(self, lengths: tuple[int, ...], number: int) -> list[Example]:
        """Pairs of random words. [CLS] and two [SEP] belong to the length, and each word is one token."""
        backend, rng = self.tokenizer.backend, random.Random(0)
        words = sorted(word for word in backend.get_vocab() if word.isascii() and word.isalpha() and word.islower())
        examples = []
        for i in range(number):
            drawn = rng.choices(words, k=lengths[i % len(lengths)] - 3)
            text, pair = " ".join(drawn[: len(drawn) * 3 // 4]), " ".join(drawn[len(drawn) * 3 // 4 :])
            examples.append(Example(str(i), text, pair, i % 2, line=i + 2))
        return examples

    def batches(self, dataset: Dataset, batch_size: int) -> list[list[int]]:
        """The rows of the timed steps: only whole batches."""
        batches = [rows for rows in dataset.shuffled(batch_size, seed=0, epoch=1) if len(rows) == batch_size]
        return batches[: self.scale.steps]

    def bert(self, name: str) -> BertModel:
        """One of `models`, or "small"."""
        torch.manual_seed(0)
        if self.model_folder is not None and name == self.model_folder.name:
            return BertModel.from_pretrained(self.model_folder)
        with self.device:  # drawing a large model's weights on the CPU takes seconds
            return BertModel(self.scale.small if name == SMALL else self.models[name])


class Trainer:
    """A model and a method, ready to take timed steps of the training loop that users run."""

    def __init__(
        self,
        work: Work,
        model: str,
        option: str = "finetune",
        precision: str | None = None,  # None: the half precision of the GPU
        compiled: bool = False,
        tf32: bool = True,
    ):
        self.work, self.compiled, self.precision = work, compiled, precision or work.half
        method = build(option)
        self.needs_fp32 = method.fp32 or not tf32
        sentences = SentenceModel(work.bert(model), [RTE])
        method.attach_with_seed(sentences, 0)
        method.prepare_with_seed = lambda *_: None  # a first stage is not a step
        self.objective = Objective(sentences, method).to(work.device)
        if compiled:
            torch._dynamo.reset()  # it compiles a function for at most eight models, and runs the others uncompiled
            compile_layers(sentences, work.scale.backend)

    def train(self, lengths: str, batch_size: int, steps: int | None = None) -> dict:
        """Take steps. Returns the totals of the log, whose clock waits for the device."""
        set_backends(self.work.device, self.needs_fp32)
        dataset = self.work.dataset(lengths, self.compiled)
        batches = self.work.batches(dataset, batch_size)[:steps]
        settings = Settings(lr=1e-5, warmup=0.0, batch_size=batch_size)
        runtime = Runtime(self.work.device, self.precision)
        return fit(self.objective, FixedSteps(dataset, batches), no_scores, settings, runtime)[0]

    def warm_up(self, lengths: str, batch_size: int) -> None:
        """The first steps allocate memory, choose kernels for each length, and compile. They take the same batches."""
        self.train(lengths, batch_size)

    def layer_parameters(self) -> int:
        """The number of parameters of the layers, which multiply every token. Shared ones count once for each layer."""
        return sum(p.numel() for layer in self.objective.model.bert.layers for p in layer.parameters())

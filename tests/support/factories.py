"""Factories: a tiny random BERT of odd sizes, its tokenizer, tasks, batches, datasets, the state of a run."""

import random
import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from tokenizers import Tokenizer as Backend

from minbert import losses
from minbert.bert import BertModel
from minbert.classifier import SentenceModel
from minbert.config import BertConfig
from minbert.data.dataset import Dataset
from minbert.data.readers import Example, Examples
from minbert.data.tasks import TASKS
from minbert.optimizer import AdamW, parameter_groups
from minbert.published import is_inserted
from minbert.task import Batch
from minbert.tokenizer import Tokenizer, word_piece
from minbert.training.log import TrainingLog
from minbert.training.loop import Objective, discard
from minbert.training.runtime import Runtime
from minbert.training.state import BestWeights, LoopState, TrainingState
from regularizers import build

CPU = Runtime(torch.device("cpu"))

WORDS = "the a cat dog bird fish sees hears likes red green small big not and or runs sleeps".split()

VOCABULARY = ["[UNK]", "[CLS]", "[PAD]", "[SEP]", "[MASK]", *WORDS, "##s", ",", ".", '"']

CONFIG = BertConfig(
    vocab_size=len(VOCABULARY) + 3,
    hidden_size=12,
    num_hidden_layers=3,
    num_attention_heads=3,
    intermediate_size=20,
    max_position_embeddings=40,
    initializer_range=0.3,
)

# What makes of CONFIG a model that is wide enough for the fused attention kernels of a GPU: three heads of 16.
WIDE = {"hidden_size": 48, "intermediate_size": 64, "initializer_range": 0.1}

# What makes of CONFIG a small model of another family.
FAMILIES = {
    "roberta": {
        "positions_after_padding": True,
        "dropout_before_pooler": True,
        "type_vocab_size": 1,
        "pad_token_id": 2,
    },
    "albert": {"embedding_size": 7, "share_layers": True, "feed_forward_dropout": False, "hidden_act": "gelu_new"},
    "distilbert": {"type_vocab_size": 0, "pooler_activation": "relu", "attention_output_dropout": False},
}

# The kinds of output that a method must work for, and the two ways to compare sentences that are encoded alone.
KINDS = {
    "two classes": TASKS["rte"],
    "three classes": TASKS["mnli"],
    "regression": TASKS["stsb"],
    "one logit": replace(
        TASKS["stsb"], name="onelogit", loss=losses.binary_cross_entropy, divergence=losses.bernoulli_kl
    ),
    "separate classes": replace(TASKS["mnli"], separate=True),
    "separate regression": replace(TASKS["stsb"], separate=True),
}

# A first stage long enough to go through all its parts; what it finds is tested in test_first_stage.py.
QUICK = {"STEPS": 10, "EVERY": 5, "DRAWS": 2, "FEWEST_EXAMPLES": 16, "REHEARSAL": 6}


def make_model(*tasks, seed: int = 0, family: str = "bert", **changes) -> SentenceModel:
    torch.manual_seed(seed)
    changes = FAMILIES.get(family, {}) | {"model_type": family} | changes
    return SentenceModel(BertModel(replace(CONFIG, **changes)), tasks or (TASKS["rte"],))


def make_batch(task=TASKS["rte"], rows: int = 5, tokens: int = 7, seed: int = 0) -> Batch:
    """Random ids with padding: input i has `tokens` - i of them real."""
    generator = torch.Generator().manual_seed(seed)
    inputs = rows * (2 if task.separate else 1)
    real = torch.arange(tokens) < (tokens - torch.arange(inputs)).clamp(min=2)[:, None]
    ids = torch.randint(5, CONFIG.vocab_size, (inputs, tokens), generator=generator)
    if task.labels:
        labels = torch.arange(rows) % task.outputs
    elif task.loss is losses.binary_cross_entropy:
        labels = torch.arange(rows) % 2
    else:
        labels = torch.rand(rows, generator=generator) * 5
    segments = (torch.arange(tokens) > tokens // 2).long().expand(inputs, -1) * real
    return Batch(ids * real, segments, real, labels, torch.arange(rows), task)


def noise_by_place(size: int = 40):
    """Stands in for torch.randn_like and rand_like: row i's token t gets the same noise in a batch of any shape,
    and a weight the same in each pass."""
    noise = torch.rand(size, size, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def draw(x: torch.Tensor, **_) -> torch.Tensor:
        if x.ndim == 3:
            return noise[: x.shape[0], : x.shape[1], : x.shape[2]].to(x)
        return torch.rand(x.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(0)).to(x.device)

    return draw


def write_rows(path: Path, rows: list[list[str]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join("\t".join(row) + "\n" for row in rows), encoding="utf-8")
    return path


def sentence(rng: random.Random) -> str:
    return " ".join(rng.choices(WORDS, k=rng.randint(3, 8)))


COURSE = ("sst5", "quora", "sts")  # the tasks of the fixture `course`, Stanford's files

COURSE_COLUMNS = {
    "sst5": ["", "id", "sentence", "sentiment"],
    "quora": ["", "id", "sentence1", "sentence2", "is_duplicate"],
    "sts": ["", "id", "sentence1", "sentence2", "similarity"],
}

COURSE_SIZES = {"train": (50, 66, 34), "dev": (21, 30, 26), "test": (5, 6, 7)}


def label_of(task: str, texts: list[str], rng: random.Random) -> str:
    """Something that can be learned: of the number of words."""
    words = len(texts[0].split())
    return {"sst5": str(words % 5), "quora": f"{words % 2}.0", "sts": str(words - 3 + rng.random() / 2)}[task]


def make_dataset(task=TASKS["rte"], size: int = 24, seed: int = 0) -> Dataset:
    """Random sentences with labels for any of KINDS."""
    rng = random.Random(seed)
    rows = []
    for i in range(size):
        label = i % task.outputs if task.labels else float(i % 2)
        rows.append(Example(str(i), sentence(rng), sentence(rng), label, line=i + 2))
    return Dataset(task, Examples(Path("rows.tsv"), rows, []), Tokenizer(vocabulary_backend()), 32)


class ListSampler:
    """The same batches, given as lists of rows, in each epoch. What training.fit wants of a sampler."""

    def __init__(self, dataset: Dataset, batches: list[list[int]], steps: int | None = None):
        self.datasets, self.batches, self.steps = [dataset], batches, steps or len(batches)

    def epoch(self, number: int) -> list[tuple[Dataset, list[int]]]:
        return [(self.datasets[0], rows) for rows in self.batches]


def make_training_state(objective: Objective, total_steps: int = 8) -> TrainingState:
    """The state of a run that has not begun."""
    log = TrainingLog(CPU, total_steps, [task.name for task in objective.model.tasks], discard)
    groups = parameter_groups(objective.model, 0.01, objective.method.undecayed(objective.model))
    optimizers = [AdamW(groups), *objective.method.optimizers()]
    return TrainingState(objective, optimizers, CPU.scaler(), BestWeights(), log, LoopState(total_steps))


def vocabulary_backend() -> Backend:
    """The WordPiece tokenizer of VOCABULARY."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n", encoding="utf-8")
        return word_piece(Path(folder))


def turn_off_dropout(model: SentenceModel) -> None:
    """For passes that are compared exactly. (A method may refuse to attach to a model without dropout.)"""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0


def attached(option: str, settings=(), *tasks, **config) -> SentenceModel:
    """A model with the modules of these methods in it."""
    model = make_model(*tasks, **config)
    build(option, settings).attach(model)
    return model


def inserted(model) -> dict[str, torch.Tensor]:
    """The parameters that plain BERT does not have, by name."""
    return {name: p for name, p in model.bert.named_parameters() if is_inserted(name)}

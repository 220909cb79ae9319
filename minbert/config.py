"""BertConfig: the numbers that define one encoder, under the names of BERT's published config.json."""

from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F

from minbert.errors import InputError
from minbert.families import FAMILIES, Family
from minbert.files import read_json_object

ACTIVATIONS = {"gelu": F.gelu, "gelu_new": partial(F.gelu, approximate="tanh")}  # of the feed-forward
POOLER_ACTIVATIONS = {"tanh": torch.tanh, "relu": torch.relu}
CHOICES = {"model_type": FAMILIES, "hidden_act": ACTIVATIONS, "pooler_activation": POOLER_ACTIVATIONS}


@dataclass(frozen=True)
class BertConfig:
    """The defaults are those of BERT-base, uncased. Raises InputError for a value out of range."""

    vocab_size: int = 30522
    hidden_size: int = 768  # D, width of every hidden state
    num_hidden_layers: int = 12  # L
    num_attention_heads: int = 12  # H; each head is D/H wide
    intermediate_size: int = 3072  # width inside the feed-forward
    max_position_embeddings: int = 512  # rows of the table of positions
    type_vocab_size: int = 2  # segments: 0 for the first text, 1 for the second; no table if there are 0
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    classifier_dropout: float | None = None  # in front of the last layer of the head; None: hidden_dropout_prob
    layer_norm_eps: float = 1e-12
    initializer_range: float = 0.02  # standard deviation of fresh weights
    pad_token_id: int = 0
    # The other families differ from BERT in these fields.
    model_type: str = "bert"  # the family: names in files, and defaults of fine-tuning
    positions_after_padding: bool = False  # RoBERTa: real tokens are counted from pad_token_id + 1 on
    embedding_size: int | None = None  # ALBERT: E, width of the embedding tables, which are projected to D
    share_layers: bool = False  # ALBERT: all layers have the same parameters
    attention_output_dropout: bool = True  # not in DistilBERT: the dropout after the attention's output projection
    feed_forward_dropout: bool = True  # not in ALBERT
    pooler_activation: str = "tanh"
    dropout_before_pooler: bool = False  # RoBERTa's head has dropout there, too

    def __post_init__(self):
        for name, choices in CHOICES.items():
            if getattr(self, name) not in tuple(choices):  # a list in a config.json has no hash, but can be compared
                raise InputError(f"{name} {getattr(self, name)!r} is not supported, only {', '.join(choices)}")
        for f in fields(self):
            value = getattr(self, f.name)
            smallest = 0 if f.name in ("type_vocab_size", "pad_token_id") else 1
            if value is None and f.type in (int | None, float | None):
                continue
            if f.type in (int, int | None) and not (type(value) is int and value >= smallest):
                kind = "positive " if smallest else ""
                raise InputError(f"{f.name} must be a {kind}whole number, not {value!r}")
            if f.type in (float, float | None) and not (type(value) in (int, float) and 0 <= value < 1):
                raise InputError(f"{f.name} must be a number from 0 up to 1, not {value!r}")
            if f.type is bool and type(value) is not bool:
                raise InputError(f"{f.name} must be true or false, not {value!r}")
        if self.pad_token_id >= self.vocab_size:
            raise InputError(f"pad_token_id {self.pad_token_id} is not below vocab_size {self.vocab_size}")
        if self.positions < 1:
            raise InputError(f"max_position_embeddings {self.max_position_embeddings} leaves no position for a token")
        if self.hidden_size % self.num_attention_heads:
            raise InputError(
                f"hidden_size {self.hidden_size} is not a multiple of num_attention_heads {self.num_attention_heads}"
            )

    @property
    def family(self) -> Family:
        return FAMILIES[self.model_type]

    @property
    def embedding_width(self) -> int:
        """E: D, except for ALBERT."""
        return self.hidden_size if self.embedding_size is None else self.embedding_size

    @property
    def positions(self) -> int:
        """The largest number of tokens T in one input."""
        first = self.pad_token_id + 1 if self.positions_after_padding else 0
        return self.max_position_embeddings - first

    @classmethod
    def from_json(cls, path: Path) -> "BertConfig":
        """Read a published config.json. Raises InputError that names the file and the field."""
        if not path.exists():
            raise InputError(f"{path} does not exist: a model folder needs config.json and model.safetensors")
        values = read_json_object(path)
        model_type = values.get("model_type", "bert")
        if not isinstance(model_type, str) or model_type not in FAMILIES:
            raise InputError(f"{path}: model_type {model_type!r} is not supported, only {', '.join(FAMILIES)}")
        family = FAMILIES[model_type]
        for name, supported in family.required.items():
            if values.get(name, supported) != supported:
                raise InputError(f"{path}: {name} {values[name]!r} is not supported, only {supported!r}")
        names = published_fields(family)
        missing = [name for ours, name in names.items() if ours in REQUIRED and name not in values]
        if missing:
            raise InputError(f"{path} lacks {', '.join(missing)}")
        given = {ours: values[name] for ours, name in names.items() if name in values}
        if given.get("pad_token_id", 0) is None:  # some models write null for what they do not use
            del given["pad_token_id"]
        try:
            return cls(**family.absent | given | {"model_type": model_type} | family.constants)
        except InputError as error:
            raise InputError(f"{path}: {error}") from None

    def check_input(self, largest_id: int, max_length: int, texts: int) -> None:
        """Raise InputError if token ids, lengths or the texts of one input go beyond the embedding tables."""
        if largest_id >= self.vocab_size:
            raise InputError(f"the tokenizer's ids go up to {largest_id}, the model's vocab_size is {self.vocab_size}")
        if self.family.tokenizer.segments and texts > self.type_vocab_size:
            raise InputError(f"the task has pairs of texts, the model's type_vocab_size is {self.type_vocab_size}")
        if max_length > self.positions:
            raise InputError(f"--max-length {max_length}: the model has {self.positions} positions")

    @property
    def head_dropout(self) -> float:
        """The rate of the head's dropout."""
        return self.hidden_dropout_prob if self.classifier_dropout is None else self.classifier_dropout

    def to_dict(self) -> dict:
        """The content of a published config.json, which transformers reads too."""
        # ALBERT's and DistilBERT's config.json must have a number for the head's dropout.
        values = vars(self) | {"classifier_dropout": self.head_dropout}
        return self.family.required | {name: values[ours] for ours, name in published_fields(self.family).items()}


def published_fields(family: Family) -> dict[str, str]:
    """The fields of BertConfig that a family's config.json has -> their names there."""
    return {f.name: family.names.get(f.name, f.name) for f in fields(BertConfig) if f.name not in family.constants}


# Each config.json has these, under the family's names.
REQUIRED = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "max_position_embeddings",
)

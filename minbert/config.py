"""BertConfig: the numbers that define one BERT, under the names of its published config.json."""

from dataclasses import asdict, dataclass, fields
from pathlib import Path

from minbert.errors import InputError
from minbert.files import read_json_object


@dataclass(frozen=True)
class BertConfig:
    """The defaults are those of BERT-base, uncased. Raises InputError for a value out of range."""

    vocab_size: int = 30522
    hidden_size: int = 768  # D, width of every hidden state
    num_hidden_layers: int = 12  # L
    num_attention_heads: int = 12  # H; each head is D/H wide
    intermediate_size: int = 3072  # width inside the feed-forward
    max_position_embeddings: int = 512  # T can be at most this
    type_vocab_size: int = 2  # segments: 0 for the first text, 1 for the second
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    layer_norm_eps: float = 1e-12
    initializer_range: float = 0.02  # standard deviation of fresh weights

    def __post_init__(self):
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type is int and not (type(value) is int and value > 0):
                raise InputError(f"{field.name} must be a positive whole number, not {value!r}")
            if field.type is float and not (type(value) in (int, float) and 0 <= value < 1):
                raise InputError(f"{field.name} must be a number from 0 up to 1, not {value!r}")
        if self.hidden_size % self.num_attention_heads:
            raise InputError(
                f"hidden_size {self.hidden_size} is not a multiple of num_attention_heads {self.num_attention_heads}"
            )

    @classmethod
    def from_json(cls, path: Path) -> "BertConfig":
        """Read a published config.json. Raises InputError that names the file and the field."""
        if not path.exists():
            raise InputError(f"{path} does not exist: a model folder needs config.json and model.safetensors")
        values = read_json_object(path)
        for name, supported in FIXED.items():
            if values.get(name, supported) != supported:
                raise InputError(f"{path}: {name} {values[name]!r} is not supported, only {supported!r}")
        missing = [name for name in REQUIRED if name not in values]
        if missing:
            raise InputError(f"{path} lacks {', '.join(missing)}")
        try:
            return cls(**{f.name: values[f.name] for f in fields(cls) if f.name in values})
        except InputError as error:
            raise InputError(f"{path}: {error}") from None

    def check_input(self, largest_id: int, max_length: int, texts: int) -> None:
        """Raise InputError if token ids, lengths or the texts of one input go beyond the embedding tables."""
        if largest_id >= self.vocab_size:
            raise InputError(f"the tokenizer's ids go up to {largest_id}, the model's vocab_size is {self.vocab_size}")
        if texts > self.type_vocab_size:
            raise InputError(f"the task has pairs of texts, the model's type_vocab_size is {self.type_vocab_size}")
        if max_length > self.max_position_embeddings:
            raise InputError(f"--max-length {max_length}: the model has {self.max_position_embeddings} positions")

    def to_dict(self) -> dict:
        """The content of a published config.json, which transformers reads too."""
        return FIXED | asdict(self)


REQUIRED = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "max_position_embeddings",
)


# The only values that this implementation computes. A config.json may leave these fields out.
FIXED = {"model_type": "bert", "hidden_act": "gelu", "position_embedding_type": "absolute"}

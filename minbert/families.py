"""BERT, RoBERTa, ALBERT and DistilBERT as data: the names in the config.json and in the tensors of each family.

The encoder is the same for all families. What differs in its arithmetic is a field of BertConfig:

    RoBERTa      positions begin after the padding id, one segment, dropout in front of the head's dense layer
    ALBERT       narrow embeddings with a projection, one layer's parameters at every depth
    DistilBERT   no segments; its head has ReLU in place of the pooler's tanh

The recipes come from Mosbach et al. 2021 (arXiv:2006.04884v3), Table 3.

Liu et al. 2019, arXiv:1907.11692; Lan et al. 2020, arXiv:1909.11942; Sanh et al. 2019, arXiv:1910.01108.
"""

from dataclasses import dataclass, field, replace
from typing import Any

D, E, V = "hidden_size", "embedding_width", "vocab_size"
Sizes = tuple[str, ...]  # the fields of BertConfig that give the shape of a weight; a bias has the first of them


@dataclass(frozen=True)
class TokenizerKind:
    """A family's tokenizer: its type, its special tokens, and how they frame one text and a pair.

    In a template $A and $B are the texts, and :1 puts a part into segment 1.
    """

    model: str  # what the tokenizers library calls the type
    pad: str
    unknown: str
    cls: str
    sep: str
    mask: str
    single: str
    pair: str
    segments: bool = True  # whether the model takes segments
    pad_is_needed: bool = False  # RoBERTa's positions count the ids that differ from the padding id

    @property
    def special_tokens(self) -> tuple[str, ...]:
        return self.pad, self.unknown, self.cls, self.sep, self.mask


BERT_FRAME = {"single": "[CLS] $A [SEP]", "pair": "[CLS] $A [SEP] $B:1 [SEP]:1"}
WORD_PIECE = TokenizerKind("WordPiece", "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", **BERT_FRAME)
WORD_PIECE_WITHOUT_SEGMENTS = replace(WORD_PIECE, segments=False)
UNIGRAM = TokenizerKind("Unigram", "<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]", **BERT_FRAME)
BYTE_LEVEL = TokenizerKind(
    *("BPE", "<pad>", "<unk>", "<s>", "</s>", "<mask>"),
    single="<s> $A </s>",
    pair="<s> $A </s> </s> $B </s>",
    segments=False,
    pad_is_needed=True,
)


@dataclass(frozen=True)
class Family:
    """The published names of one family. {} stands for the number of the layer."""

    prefix: str  # of the encoder's tensors in files that also hold a head
    modules: dict[str, tuple[str, Sizes]]  # our module in BertModel -> its published name, and the shape of its weight
    mlm: dict[str, str]  # our parameter of MaskedLanguageModel -> its published name
    classifier: str  # the last layer of the head of a sequence classifier
    architectures: str  # names of transformers' classes begin with this
    tokenizer: TokenizerKind
    head_pooler: str | None = None  # where a sequence classifier has the pooler, if it belongs to the head
    other_heads: tuple[str, ...] = ()  # a file may hold tensors whose names begin like this, too
    names: dict[str, str] = field(default_factory=dict)  # field of BertConfig -> its name in config.json if it differs
    constants: dict[str, Any] = field(default_factory=dict)  # fields of BertConfig that config.json does not have
    absent: dict[str, Any] = field(default_factory=dict)  # defaults of fields that a config.json may omit
    recipe: dict[str, Any] = field(default_factory=dict)  # defaults of fine-tuning where they are not BERT's
    required: dict[str, Any] = field(default_factory=dict)  # the only values that this implementation computes

    @property
    def encoder_pooler(self) -> str:
        """The published name of the pooler as a part of the encoder."""
        return self.prefix + self.modules["pooler"][0]

    @property
    def classifier_pooler(self) -> str:
        """The published name of the pooler in a sequence classifier, where it may belong to the head."""
        return self.head_pooler or self.encoder_pooler


def embeddings(segments: bool = True) -> dict[str, tuple[str, Sizes]]:
    modules = {
        "embeddings.token": ("embeddings.word_embeddings", (V, E)),
        "embeddings.position": ("embeddings.position_embeddings", ("max_position_embeddings", E)),
        "embeddings.segment": ("embeddings.token_type_embeddings", ("type_vocab_size", E)),
        "embeddings.norm": ("embeddings.LayerNorm", (E,)),
    }
    if not segments:
        del modules["embeddings.segment"]
    return modules


def layers(*names: str) -> dict[str, tuple[str, Sizes]]:
    """The modules of a layer under the names given: query, key, value, output, norm, up, down, norm."""
    ours: dict[str, Sizes] = {
        "attention.query": (D, D),
        "attention.key": (D, D),
        "attention.value": (D, D),
        "attention.output": (D, D),
        "attention_norm": (D,),
        "feed_forward.up": ("intermediate_size", D),
        "feed_forward.down": (D, "intermediate_size"),
        "feed_forward_norm": (D,),
    }
    return {f"layers.{{}}.{module}": (name, sizes) for (module, sizes), name in zip(ours.items(), names, strict=True)}


def mlm_head(transform: str, norm: str, bias: str) -> dict[str, str]:
    """The parameters of a masked-language-model head under the names given."""
    modules = {"transform": transform, "norm": norm}
    names = {f"{ours}.{kind}": f"{name}.{kind}" for ours, name in modules.items() for kind in ("weight", "bias")}
    return names | {"bias": bias}


BERT_LAYERS = layers(
    "encoder.layer.{}.attention.self.query",
    "encoder.layer.{}.attention.self.key",
    "encoder.layer.{}.attention.self.value",
    "encoder.layer.{}.attention.output.dense",
    "encoder.layer.{}.attention.output.LayerNorm",
    "encoder.layer.{}.intermediate.dense",
    "encoder.layer.{}.output.dense",
    "encoder.layer.{}.output.LayerNorm",
)
# What a BERT has, and what the fields of the others are if their config.json does not have them.
PLAIN = {
    "positions_after_padding": False,
    "embedding_size": None,
    "share_layers": False,
    "attention_output_dropout": True,
    "feed_forward_dropout": True,
    "pooler_activation": "tanh",
    "dropout_before_pooler": False,
}
ABSOLUTE = {"position_embedding_type": "absolute", "is_decoder": False}

FAMILIES = {
    "bert": Family(
        prefix="bert.",
        modules=embeddings() | BERT_LAYERS | {"pooler": ("pooler.dense", (D, D))},
        mlm=mlm_head("cls.predictions.transform.dense", "cls.predictions.transform.LayerNorm", "cls.predictions.bias"),
        classifier="classifier",
        architectures="Bert",
        tokenizer=WORD_PIECE,
        other_heads=("cls.",),
        constants=PLAIN,
        required=ABSOLUTE,
    ),
    "roberta": Family(
        prefix="roberta.",
        modules=embeddings() | BERT_LAYERS | {"pooler": ("pooler.dense", (D, D))},
        mlm=mlm_head("lm_head.dense", "lm_head.layer_norm", "lm_head.bias"),
        classifier="classifier.out_proj",
        architectures="Roberta",
        tokenizer=BYTE_LEVEL,
        head_pooler="classifier.dense",
        other_heads=("lm_head.",),
        constants=PLAIN | {"positions_after_padding": True, "dropout_before_pooler": True},
        absent={"pad_token_id": 1},
        recipe={"adam_betas": (0.9, 0.98), "weight_decay": 0.1, "clip": 0.0},
        required=ABSOLUTE,
    ),
    "albert": Family(
        prefix="albert.",
        modules=embeddings()
        | {"embeddings.project": ("encoder.embedding_hidden_mapping_in", (D, E))}
        | layers(
            "encoder.albert_layer_groups.0.albert_layers.0.attention.query",
            "encoder.albert_layer_groups.0.albert_layers.0.attention.key",
            "encoder.albert_layer_groups.0.albert_layers.0.attention.value",
            "encoder.albert_layer_groups.0.albert_layers.0.attention.dense",
            "encoder.albert_layer_groups.0.albert_layers.0.attention.LayerNorm",
            "encoder.albert_layer_groups.0.albert_layers.0.ffn",
            "encoder.albert_layer_groups.0.albert_layers.0.ffn_output",
            "encoder.albert_layer_groups.0.albert_layers.0.full_layer_layer_norm",
        )
        | {"pooler": ("pooler", (D, D))},
        mlm=mlm_head("predictions.dense", "predictions.LayerNorm", "predictions.bias"),
        classifier="classifier",
        architectures="Albert",
        tokenizer=UNIGRAM,
        other_heads=("predictions.", "sop_classifier."),
        names={"classifier_dropout": "classifier_dropout_prob"},
        constants={name: value for name, value in PLAIN.items() if name != "embedding_size"}
        | {"share_layers": True, "feed_forward_dropout": False},
        absent={
            "embedding_size": 128,
            "hidden_act": "gelu_new",
            "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0,
            "classifier_dropout": 0.1,
        },
        recipe={"weight_decay": 0.0, "dropout": 0.0},
        required=ABSOLUTE | {"num_hidden_groups": 1, "inner_group_num": 1},
    ),
    "distilbert": Family(
        prefix="distilbert.",
        modules=embeddings(segments=False)
        | layers(
            "transformer.layer.{}.attention.q_lin",
            "transformer.layer.{}.attention.k_lin",
            "transformer.layer.{}.attention.v_lin",
            "transformer.layer.{}.attention.out_lin",
            "transformer.layer.{}.sa_layer_norm",
            "transformer.layer.{}.ffn.lin1",
            "transformer.layer.{}.ffn.lin2",
            "transformer.layer.{}.output_layer_norm",
        )
        | {"pooler": ("pre_classifier", (D, D))},
        mlm=mlm_head("vocab_transform", "vocab_layer_norm", "vocab_projector.bias"),
        classifier="classifier",
        architectures="DistilBert",
        tokenizer=WORD_PIECE_WITHOUT_SEGMENTS,
        head_pooler="pre_classifier",
        other_heads=("vocab_",),
        names={
            "hidden_size": "dim",
            "num_hidden_layers": "n_layers",
            "num_attention_heads": "n_heads",
            "intermediate_size": "hidden_dim",
            "hidden_act": "activation",
            "hidden_dropout_prob": "dropout",
            "attention_probs_dropout_prob": "attention_dropout",
            "classifier_dropout": "seq_classif_dropout",
        },
        absent={"classifier_dropout": 0.2},
        constants=PLAIN
        | {"type_vocab_size": 0, "layer_norm_eps": 1e-12, "pooler_activation": "relu"}
        | {"attention_output_dropout": False},
    ),
}

"""Write tests/support/references/families/: tiny random models of each family, and what transformers makes of them.

    pip install transformers && PYTHONPATH=. python tests/support/make_families.py

For each family a folder for the encoder alone, for a sequence classifier and for a masked language model, in odd
sizes, each with outputs.safetensors: inputs padded at the right; hidden states, pooler, logits in float32 and float64.
large.json has the names and shapes of all parameters of published large models, whose config.json is public knowledge.
"""

import json
from pathlib import Path

import torch
import transformers
from safetensors.torch import save_file

FOLDER = Path(__file__).parent / "references" / "families"
COMMON = {"vocab_size": 37, "initializer_range": 0.3, "attn_implementation": "eager"}
SIZES = {"hidden_size": 12, "num_hidden_layers": 3, "num_attention_heads": 3, "intermediate_size": 20}
CONFIGS = {
    "roberta": transformers.RobertaConfig(
        **COMMON, **SIZES, max_position_embeddings=19, type_vocab_size=1, layer_norm_eps=1e-5
    ),
    "albert": transformers.AlbertConfig(
        **COMMON, **SIZES, max_position_embeddings=17, type_vocab_size=2, embedding_size=7, classifier_dropout_prob=0.2
    ),
    "distilbert": transformers.DistilBertConfig(
        **COMMON, dim=15, n_layers=2, n_heads=5, hidden_dim=22, max_position_embeddings=17
    ),
}
KINDS = {
    "encoder": transformers.AutoModel,
    "classifier": transformers.AutoModelForSequenceClassification,
    "mlm": transformers.AutoModelForMaskedLM,
}
LARGE = {
    "bert-large-uncased": transformers.BertConfig(
        hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096
    ),
    "roberta-large": transformers.RobertaConfig(
        vocab_size=50265, hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096,
        max_position_embeddings=514, type_vocab_size=1, layer_norm_eps=1e-5,
    ),
    "albert-large-v2": transformers.AlbertConfig(
        hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096, embedding_size=128,
        num_hidden_groups=1, inner_group_num=1, hidden_dropout_prob=0, attention_probs_dropout_prob=0,
    ),
    "distilbert-base-uncased": transformers.DistilBertConfig(),
}  # fmt: skip


def inputs(config) -> dict[str, torch.Tensor]:
    """Ids, segments and mask [4,15]; rows are padded at the right with the family's padding id."""
    tokens, pad = 15, config.pad_token_id
    real = torch.arange(tokens) < torch.tensor([15, 1, 7, 14])[:, None]
    ids = torch.where(real, torch.randint(5, config.vocab_size, (4, tokens)), pad)
    segments = torch.randint(0, getattr(config, "type_vocab_size", 1), (4, tokens)) * real
    return {"input_ids": ids, "token_type_ids": segments, "attention_mask": real.long()}


def make(family: str, kind: str) -> None:
    config = CONFIGS[family]
    config.num_labels = 3
    model = KINDS[kind].from_config(config).eval()
    for parameter in model.parameters():  # biases and LayerNorms are not left at 0 and 1
        parameter.data += 0.2 * torch.randn_like(parameter)
    tensors = inputs(config)
    arguments = {name: tensor for name, tensor in tensors.items() if family != "distilbert" or "type" not in name}
    for dtype in ("float32", "float64"):
        with torch.no_grad():
            out = model.to(getattr(torch, dtype))(**arguments, output_hidden_states=True)
        found = {f"hidden{number}": hidden for number, hidden in enumerate(out.hidden_states)}
        found |= {name: out[name] for name in ("pooler_output", "logits") if out.get(name) is not None}
        tensors |= {f"{dtype}.{name}": tensor.clone() for name, tensor in found.items()}
    folder = FOLDER / family / kind
    model.float().save_pretrained(folder)
    save_file(tensors, folder / "outputs.safetensors")


def list_parameters() -> None:
    """The parameters of each large model without a head, by name, with their shapes."""
    found = {}
    for name, config in LARGE.items():
        with torch.device("meta"):
            model = transformers.AutoModel.from_config(config)
        shapes = {parameter: list(tensor.shape) for parameter, tensor in model.named_parameters()}
        found[name] = {"config": json.loads(config.to_json_string(use_diff=False)), "parameters": shapes}
        found[name]["config"] = {k: v for k, v in found[name]["config"].items() if type(v) in (int, float, str, bool)}
    (FOLDER / "large.json").write_text(json.dumps(found, indent=0) + "\n", encoding="utf-8")


if __name__ == "__main__":
    torch.manual_seed(0)
    for family in CONFIGS:
        for kind in KINDS:
            make(family, kind)
    list_parameters()

"""Writes tests/references/: tiny random BERTs and what transformers computes with them.

    pip install transformers && python tests/make_references.py

Sizes are odd and unequal, so that a wrong broadcast or a swapped axis cannot pass. Each folder holds a
checkpoint (config.json, model.safetensors) and outputs.safetensors: padded inputs with segments, and the
hidden states of every layer and the pooler in float32 and float64.
"""

from pathlib import Path

import torch
import transformers
from safetensors.torch import save_file

FOLDER = Path(__file__).parent / "references"
SIZES = {
    "odd": {"vocab_size": 37, "hidden_size": 12, "num_hidden_layers": 3, "num_attention_heads": 3,
            "intermediate_size": 20, "max_position_embeddings": 19, "type_vocab_size": 2},
    "wide": {"vocab_size": 53, "hidden_size": 35, "num_hidden_layers": 2, "num_attention_heads": 5,
             "intermediate_size": 18, "max_position_embeddings": 11, "type_vocab_size": 3, "layer_norm_eps": 1e-5},
    "one": {"vocab_size": 29, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1,
            "intermediate_size": 9, "max_position_embeddings": 7, "type_vocab_size": 1},
}  # fmt: skip


def inputs(sizes: dict, tokens: int, lengths: list[int]) -> dict[str, torch.Tensor]:
    """Random ids and segments, a row for each of `lengths`, padded to `tokens`."""
    ids = torch.randint(1, sizes["vocab_size"], (len(lengths), tokens))
    segments = torch.randint(0, sizes["type_vocab_size"], (len(lengths), tokens))
    padded = (torch.arange(tokens) < torch.tensor(lengths)[:, None]).long()
    return {"input_ids": ids, "token_type_ids": segments, "attention_mask": padded}


def make(name: str, sizes: dict) -> None:
    config = transformers.BertConfig(**sizes, initializer_range=0.3, attn_implementation="eager")
    model = transformers.BertModel(config).eval()
    for parameter in model.parameters():  # biases and LayerNorms are not left at 0 and 1
        parameter.data += 0.2 * torch.randn_like(parameter)
    tokens = sizes["max_position_embeddings"]
    tensors = inputs(sizes, tokens, [tokens, 1, tokens // 2, tokens - 1])
    ids, segments, padded = tensors.values()
    for dtype in ("float32", "float64"):
        model.to(getattr(torch, dtype))
        for case, mask, types in (("plain", None, None), ("padded", padded, segments)):
            with torch.no_grad():
                out = model(ids, attention_mask=mask, token_type_ids=types, output_hidden_states=True)
            for number, hidden in enumerate(out.hidden_states):
                tensors[f"{dtype}.{case}.hidden{number}"] = hidden.clone()
            tensors[f"{dtype}.{case}.pooler"] = out.pooler_output.clone()
    model.float().save_pretrained(FOLDER / name)
    save_file(tensors, FOLDER / name / "outputs.safetensors")


if __name__ == "__main__":
    torch.manual_seed(0)
    for name, sizes in SIZES.items():
        make(name, sizes)

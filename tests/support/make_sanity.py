"""Writes minbert/sanity/reference.safetensors: a tiny random BERT and the numbers that transformers computes with it.

    pip install transformers && python tests/support/make_sanity.py

The sizes are odd and unequal, and every row has padding. The input of each LayerNorm is small, about 0.05, so that an
eps of 1e-6 instead of 1e-12 shows in float32. The attention's weights are large, so that its scores differ.
Activations are in float64.
"""

import json
from pathlib import Path

import torch
import transformers
from make_references import inputs
from safetensors.torch import save_file

FILE = Path(__file__).parents[2] / "minbert" / "sanity" / "reference.safetensors"
SIZES = {"vocab_size": 23, "hidden_size": 15, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 22,
         "max_position_embeddings": 11, "type_vocab_size": 3}  # fmt: skip
SPREADS = {  # the standard deviation of the parameters whose name contains the key; the first key that fits counts
    "LayerNorm.weight": 0.04, "LayerNorm.bias": 0.01, "embeddings": 0.02, "self": 4.0, "attention.output": 0.006,
    "intermediate": 3.0, "output": 0.01, "pooler": 4.0,
}  # fmt: skip


def make() -> dict[str, torch.Tensor]:
    """The parameters, the inputs, and as `expected.NAME` the output of the module with that published name."""
    model = transformers.BertModel(transformers.BertConfig(**SIZES, attn_implementation="eager")).eval()
    for name, parameter in model.named_parameters():
        spread = next(SPREADS[part] for part in SPREADS if part in name)
        parameter.data = torch.randn_like(parameter) * spread
    tensors = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    batch = inputs(SIZES, 7, [6, 1, 3, 5])

    def keep(name: str):
        def hook(module, args, output):
            tensors[f"expected.{name}"] = output.clone()

        return hook

    parts = ("attention.output.dense", "attention.output", "output.dense", "output")
    layers = [f"encoder.layer.{number}.{part}" for number in range(SIZES["num_hidden_layers"]) for part in parts]
    for name in ("embeddings", *layers, "pooler"):
        model.get_submodule(name).register_forward_hook(keep(name))
    with torch.no_grad():
        model.double()(**batch)
    return tensors | batch


if __name__ == "__main__":
    torch.manual_seed(0)
    save_file(make(), FILE, metadata={"config": json.dumps(SIZES)})

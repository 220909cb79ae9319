"""Writes minbert/sanity/reference.safetensors: a tiny random BERT with what transformers computes, and steps of AdamW.

    pip install transformers && python tests/make_sanity.py

The sizes are odd and unequal, and every row is padded. What goes into a LayerNorm is small, about 0.05, so that an eps
of 1e-6 in place of 1e-12 shows in float32; the attention's weights are large, so that its scores are not all alike.
Activations and AdamW's steps are in float64.
"""

import json
from itertools import repeat
from pathlib import Path

import torch
import transformers
from make_references import inputs
from safetensors.torch import save_file

from support.slow_adam import slow_adam

FILE = Path(__file__).parent.parent / "minbert" / "sanity" / "reference.safetensors"
SIZES = {"vocab_size": 23, "hidden_size": 15, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 22,
         "max_position_embeddings": 11, "type_vocab_size": 3}  # fmt: skip
SPREADS = {  # the standard deviation of the parameters whose name contains it; the first that does counts
    "LayerNorm.weight": 0.04, "LayerNorm.bias": 0.01, "embeddings": 0.02, "self": 4.0, "attention.output": 0.006,
    "intermediate": 3.0, "output": 0.01, "pooler": 4.0,
}  # fmt: skip

STEPS, WITHOUT_GRADIENT = 6, 2  # in that step, counted from 0, the second parameter has no gradient
USUAL = {"lr": 0.1, "betas": [0.8, 0.95], "eps": 0.05, "weight_decay": 0.0, "correct_bias": True}
RUNS = {  # name -> settings of the two parameters' groups
    "with bias correction": [USUAL, USUAL | {"lr": 0.03}],
    "without bias correction": [USUAL | {"correct_bias": False}, USUAL | {"lr": 0.03, "correct_bias": False}],
    "with weight decay": [USUAL | {"weight_decay": 0.3}, USUAL | {"lr": 0.03, "weight_decay": 0.1}],
}


def encoder() -> dict[str, torch.Tensor]:
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


def adam() -> dict[str, torch.Tensor]:
    starts, gradients = (torch.randn(15), torch.randn(4)), (torch.randn(STEPS, 15), torch.randn(STEPS, 4))
    present = torch.ones(2, STEPS, dtype=torch.bool)
    present[1, WITHOUT_GRADIENT] = False
    tensors = {"adam.present": present}
    for number in range(2):
        tensors |= {f"adam.{number}.start": starts[number], f"adam.{number}.gradients": gradients[number]}
    for run, groups in RUNS.items():
        rows = []
        for step in range(1, STEPS + 1):
            taken = [grads[:step][there[:step]].T.tolist() for grads, there in zip(gradients, present)]
            rows.append([after(*one) for n in range(2) for one in zip(starts[n].tolist(), taken[n], repeat(groups[n]))])
        tensors[f"adam.expected.{run}"] = torch.tensor(rows, dtype=torch.float64)
    return tensors


def after(theta: float, gradients: list[float], s: dict) -> float:
    return slow_adam(theta, gradients, s["lr"], *s["betas"], s["eps"], s["weight_decay"], s["correct_bias"])


if __name__ == "__main__":
    torch.manual_seed(0)
    save_file(encoder() | adam(), FILE, metadata={"about": json.dumps({"config": SIZES, "runs": RUNS})})

"""The committed reference numbers, and reference numbers for a model with other weights."""

import json
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import safe_open
from torch import nn

from minbert.config import BertConfig
from minbert.errors import InputError
from minbert.families import FAMILIES
from minbert.published import is_inserted, published_name, split_name
from minbert.sanity import plain
from minbert.sanity.plain import Reference

FILE = Path(__file__).with_name("reference.safetensors")  # written by tests/support/make_sanity.py


def tiny_reference() -> Reference:
    """The committed tiny BERT, and the numbers that transformers computed with it."""
    with safe_open(FILE, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        config = BertConfig(**json.loads(file.metadata()["config"]))
    ids, mask, segments = (tensors.pop(name) for name in ("input_ids", "attention_mask", "token_type_ids"))
    expected = {n.removeprefix("expected."): tensors.pop(n) for n in list(tensors) if n.startswith("expected.")}
    return Reference(config, tensors, ids, mask.bool(), segments, expected)


def own_reference(model: nn.Module) -> Reference:
    """The model's own weights, random inputs, and the numbers that plain.py computes.

    Raises InputError if the model has a tensor that BertModel does not have.
    """
    weights = {}
    for name, tensor in model.state_dict().items():
        if is_inserted(name):
            raise InputError(f"the model has a tensor {name}, which standard BERT does not have")
        in_bert = split_name(name)[0] in FAMILIES["bert"].modules
        weights[published_name(name) if in_bert else name] = tensor.cpu()
    config, generator = model.config, torch.Generator().manual_seed(0)
    tokens = min(9, config.positions)
    ids = torch.randint(config.vocab_size, (4, tokens), generator=generator)
    segments = torch.randint(max(1, config.type_vocab_size), (4, tokens), generator=generator)
    lengths = torch.tensor([tokens - 1, 1, tokens // 2, tokens - 2]).clamp(min=1)
    reference = Reference(config, weights, ids, torch.arange(tokens) < lengths[:, None], segments)
    return replace(reference, expected=plain.activations(reference))

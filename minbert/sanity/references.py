"""What a check starts from: a model's weights, inputs for it, and what each of its parts should give."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, nn

from minbert.config import BertConfig
from minbert.errors import InputError
from minbert.published import is_inserted, published_name
from minbert.sanity import plain

FILE = Path(__file__).with_name("reference.safetensors")  # written by tests/make_sanity.py


@dataclass(frozen=True)
class Reference:
    """All by published names; `expected` is in float64."""

    config: BertConfig
    weights: dict[str, Tensor]
    ids: Tensor  # [B,T], and so the next two
    mask: Tensor  # True at real tokens; every row has padding
    segments: Tensor
    expected: dict[str, Tensor]


@dataclass(frozen=True)
class Trajectory:
    """Two parameters, their gradients, and where AdamW should take them."""

    starts: list[Tensor]
    gradients: list[list[Tensor | None]]  # of each parameter, step by step
    groups: list[dict]  # the settings of each parameter
    expected: Tensor  # [S,N]: all their numbers, after each step


def tiny_reference() -> Reference:
    """The committed tiny BERT, and what transformers computed with it."""
    tensors, about = committed()
    expected = {n.removeprefix("expected."): tensors.pop(n) for n in list(tensors) if n.startswith("expected.")}
    ids, mask, segments = (tensors.pop(name) for name in ("input_ids", "attention_mask", "token_type_ids"))
    own = {name: tensor for name, tensor in tensors.items() if not name.startswith("adam.")}
    return Reference(BertConfig(**about["config"]), own, ids, mask.bool(), segments, expected)


def own_reference(model: nn.Module) -> Reference:
    """The model's own weights, random inputs, and what plain.py computes. Raises InputError for unknown names."""
    own = {}
    for name, tensor in model.state_dict().items():
        if is_inserted(name):
            raise InputError(f"the model has a tensor {name}, which is none of BertModel's")
        own[published_name(name)] = tensor.cpu()
    config, generator = model.config, torch.Generator().manual_seed(0)
    tokens = min(9, config.max_position_embeddings)
    ids = torch.randint(config.vocab_size, (4, tokens), generator=generator)
    segments = torch.randint(config.type_vocab_size, (4, tokens), generator=generator)
    lengths = torch.tensor([tokens - 1, 1, tokens // 2, tokens - 2]).clamp(min=1)
    mask = torch.arange(tokens) < lengths[:, None]
    return Reference(config, own, ids, mask, segments, plain.activations(own, config, ids, mask, segments))


def trajectories() -> dict[str, Trajectory]:
    """What the committed file holds of AdamW, by the name of the run."""
    tensors, about = committed()
    starts, gradients = [tensors["adam.0.start"], tensors["adam.1.start"]], []
    for number, present in enumerate(tensors["adam.present"]):
        gradients.append([g if there else None for g, there in zip(tensors[f"adam.{number}.gradients"], present)])
    return {
        run: Trajectory(starts, gradients, groups, tensors[f"adam.expected.{run}"])
        for run, groups in about["runs"].items()
    }


def committed() -> tuple[dict[str, Tensor], dict]:
    """The tensors of the committed file, and what it says of them: the model's config, AdamW's settings."""
    with safe_open(FILE, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, json.loads(file.metadata()["about"])  # noqa: SIM118

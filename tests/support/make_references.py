"""Write tests/support/references/: tiny random BERTs, and what transformers and peft compute with them.

    pip install transformers peft && PYTHONPATH=. python tests/support/make_references.py

The sizes are odd and unequal, so that a wrong broadcast or a swapped axis cannot pass. Each folder holds a checkpoint
(config.json, model.safetensors) and outputs.safetensors: padded inputs with segments, and the hidden states of every
layer and the pooler in float32 and float64.

lora/ holds a classifier with LoRA in it, the plain checkpoint that minbert.weights.merge makes of it (merged/), and the
logits in float64: those that transformers computes with the plain checkpoint, and those that peft's LoRA computes.
"""

from pathlib import Path

import peft
import torch
import transformers
from safetensors.torch import save_file

from minbert import weights
from minbert.bert import BertModel
from minbert.classifier import SentenceModel
from minbert.config import BertConfig
from minbert.data.tasks import TASKS
from regularizers.lora import Lora

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


LORA = {"r": 5, "alpha": 7.0}


def make_lora() -> None:
    """A classifier with LoRA in it, all its parameters random, and its logits by two other programs."""
    torch.manual_seed(0)  # so that this part alone can be run again
    sizes, folder = SIZES["odd"], FOLDER / "lora"
    model = SentenceModel(BertModel(BertConfig(**sizes, initializer_range=0.3)), [TASKS["mnli"]]).eval()
    Lora(**LORA).attach(model)
    for parameter in model.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    weights.save_model(model, folder)
    model.double()
    weights.save_model(weights.merge(model), folder / "merged")
    tensors = inputs(sizes, 17, [17, 2, 9, 16])
    arguments = {name: tensor.clone() for name, tensor in tensors.items()}

    plain = transformers.BertForSequenceClassification.from_pretrained(folder / "merged", dtype=torch.float64).eval()
    frozen = transformers.BertForSequenceClassification.from_pretrained(folder, dtype=torch.float64).eval()
    config = peft.LoraConfig(r=LORA["r"], lora_alpha=LORA["alpha"], target_modules=["query", "value"])
    by_peft = peft.get_peft_model(frozen, config).eval()
    for number, layer in enumerate(by_peft.base_model.model.bert.encoder.layer):
        updates = model.bert.layers[number].attention
        for name, update in (("query", updates.query_updates["mnli"]), ("value", updates.value_updates["mnli"])):
            module = getattr(layer.attention.self, name)
            module.lora_A["default"].weight.data = update.a.data.clone()
            module.lora_B["default"].weight.data = update.b.data.clone()
    with torch.no_grad():
        tensors["logits"] = plain(**arguments).logits.clone()
        tensors["logits_by_peft"] = by_peft(**arguments).logits.clone()
    save_file(tensors, folder / "outputs.safetensors")


if __name__ == "__main__":
    torch.manual_seed(0)
    for name, sizes in SIZES.items():
        make(name, sizes)
    make_lora()

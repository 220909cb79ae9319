"""Compiled layers, and the few lengths of batches that a run with them has."""

import pytest
import torch
from support.factories import WIDE, make_batch, make_dataset, make_model, turn_off_dropout, vocabulary_backend

import train
from minbert.data.dataset import Dataset
from minbert.data.readers import Example, Examples
from minbert.data.sampling import BatchSampler
from minbert.data.tasks import TASKS
from minbert.tokenizer import Tokenizer
from minbert.training.loop import Objective, fit
from minbert.training.runtime import Runtime, compile_layers
from minbert.training.settings import Settings
from regularizers import build


def test_compiled_layers_are_compiled_once_for_all_lengths_and_keep_their_names(device):
    graphs = []

    def backend(module, inputs):
        graphs.append(module)
        return module.forward

    torch._dynamo.reset()
    model = make_model(**WIDE, num_hidden_layers=12).to(device).train()  # more layers than dynamo compiles functions
    names = [name for name, _ in model.named_parameters()]
    compile_layers(model, backend=backend)
    model(make_batch(rows=4, tokens=6).to(device)).logits.sum().backward()
    first = len(graphs)
    for tokens in range(7, 40, 3):
        model(make_batch(rows=5, tokens=tokens).to(device)).logits.sum().backward()
    assert first and len(graphs) == first
    assert [name for name, _ in model.named_parameters()] == names
    assert all(p.grad is not None for p in model.parameters())


def test_bf16_and_compiled_layers_train_as_float32_does(device):
    """The losses of every row of the log are those of plain float32, except for rounding. A GPU compiles as it does for
    users. That takes a minute on a CPU, so the compiler there only traces."""
    sampler, losses = BatchSampler(make_dataset(size=30), 4, 0, epochs=4), []
    settings = Settings(lr=1e-2, warmup=0.0, batch_size=4)
    torch._dynamo.reset()
    for precision, compiled in (("fp32", False), ("bf16", False), ("fp32", True)):
        model, rows = make_model(**WIDE), []
        objective = Objective(model, build("l2sp"))
        objective.method.attach(model)
        objective.to(device)
        turn_off_dropout(objective)  # on a GPU compiled layers and bf16 draw other masks
        if compiled:
            compile_layers(model, backend="inductor" if device.type == "cuda" else "aot_eager")
        fit(objective, sampler, lambda e: {}, settings, Runtime(device, precision), rows.append)
        losses.append([row["loss"] for row in rows])
    plain, bf16, compiled = (torch.tensor(of_run) for of_run in losses)
    assert (plain - plain[0]).abs().max() > 0.1  # the losses change
    assert (bf16 - plain).abs().max() < 0.02 and (compiled - plain).abs().max() < 1e-3


@pytest.mark.parametrize("flag, lengths", [("--compile", {16}), ("--no-compile", set(range(5, 17)))])
def test_with_compile_a_run_has_few_lengths(flag, lengths, arguments, monkeypatch):
    seen, collate = set(), Dataset.collate

    def spy(self, *args, **kwargs):
        batch = collate(self, *args, **kwargs)
        seen.add(batch.input_ids.shape[1])
        return batch

    monkeypatch.setattr(Dataset, "collate", spy)
    compiled = []
    monkeypatch.setattr("minbert.training.run.compile_layers", compiled.append)
    assert train.main([*arguments, flag, "--epochs", "1", "--max-length", "16", "--batch-size", "4"]) == 0
    assert seen <= lengths and (len(seen) > 2) == (flag == "--no-compile") and len(compiled) == (flag == "--compile")


@pytest.mark.parametrize("longest, expected", [(3, 4), (4, 4), (5, 8), (8, 8), (9, 10), (10, 10)])
def test_the_length_of_a_batch_is_a_multiple_or_the_largest_length(longest, expected):
    words = " ".join(["the"] * (longest - 2))
    rows = [Example("0", words, None, 0), Example("1", "", None, 1)]
    task, tokenizer = TASKS["cola"], Tokenizer(vocabulary_backend())
    plain, rounded = (Dataset(task, Examples(None, rows, []), tokenizer, 10, step).collate([0, 1]) for step in (1, 4))
    assert plain.input_ids.shape == (2, longest) and rounded.input_ids.shape == (2, expected)
    for name, fill in (("input_ids", tokenizer.pad_id), ("token_type_ids", 0), ("attention_mask", False)):
        short, long = getattr(plain, name), getattr(rounded, name)
        assert torch.equal(long[:, :longest], short) and (long[:, longest:] == fill).all()

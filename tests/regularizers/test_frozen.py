"""The frozen encoder: only the head trains."""

import torch
from support.factories import attached, make_batch
from support.method_inputs import HEAD, trained_names


def test_only_the_head_trains():
    assert trained_names(attached("frozen")) == HEAD


def test_the_backward_pass_ends_at_the_head():
    model, batch = attached("frozen").train(), make_batch()
    clean = model(batch)
    assert not clean.hidden[-1].requires_grad
    batch.task.loss(clean.logits, batch.labels).backward()
    assert {name for name, p in model.named_parameters() if p.grad is not None} == HEAD


def test_dropout_stays_on_in_training():
    model, batch = attached("frozen").train(), make_batch()
    assert not torch.equal(model(batch).logits, model(batch).logits)

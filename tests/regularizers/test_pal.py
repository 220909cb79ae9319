"""PALs and low-rank branches: their equations, their first weights, what they add, and what trains."""

import math

import pytest
import torch
from support.factories import attached, inserted, make_batch, make_model
from support.method_inputs import (
    BASE,
    HEAD,
    both,
    count_bert_base,
    layer_input,
    logits,
    randomised,
    slow_dot,
    slow_gelu,
    slow_linear,
    token_by_token,
    trained_names,
)

from minbert.data.tasks import TASKS
from minbert.training.loop import Objective
from regularizers import build

BRANCHES = {"pal": ["pal.size=8", "pal.heads=2"], "low-rank": ["low-rank.size=5"]}


def slow_low_rank(branch, h: torch.Tensor) -> torch.Tensor:
    return token_by_token(lambda x: slow_linear(branch.decode, slow_gelu(slow_linear(branch.encode, x))), h)


def slow_attention(branch, tokens: list[list[float]], is_real: list[bool], heads: int) -> list[list[float]]:
    """The attention of one row, of tokens in the narrow space."""
    q, k, v = ([slow_linear(f, x) for x in tokens] for f in (branch.query, branch.key, branch.value))
    width = len(tokens[0]) // heads
    outputs = []
    for query in q:
        output = []
        for head in range(heads):
            part = slice(head * width, (head + 1) * width)
            scores = [math.exp(slow_dot(query[part], key[part]) / math.sqrt(width)) for key in k]
            scores = [score if real else 0.0 for score, real in zip(scores, is_real)]
            for d in range(head * width, (head + 1) * width):
                output.append(sum(s * value[d] for s, value in zip(scores, v)) / sum(scores))
        outputs.append(output)
    return outputs


def slow_pal(branch, shared, h: torch.Tensor, real: torch.Tensor, heads: int, out_act) -> torch.Tensor:
    rows = []
    for tokens, is_real in zip(h.tolist(), real.tolist()):
        narrow = slow_attention(branch, [slow_linear(shared.encode, x) for x in tokens], is_real, heads)
        rows.append([out_act(slow_linear(shared.decode, x)) for x in narrow])
    return torch.tensor(rows, dtype=h.dtype)


def layer_with_branch(model, branch_output: torch.Tensor, h: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    layer = model.bert.layers[1].base
    a = layer.attention_norm(h + layer.attention(h, mask))
    return layer.feed_forward_norm(a + layer.feed_forward(a) + branch_output)


@pytest.mark.parametrize("heads, out_act", [(2, None), (4, "gelu")])
def test_a_layer_with_a_pal_equals_a_slow_loop(heads, out_act):
    h, mask, real = layer_input()
    model = randomised("pal", ["pal.size=8", f"pal.heads={heads}", f"pal.out_act={out_act}".lower()])
    branch = model.bert.layers[1].branches["rte"]
    ts = slow_pal(branch, model.bert.pal["rte"], h, real, heads, slow_gelu if out_act else lambda x: x)
    assert torch.allclose(model.bert.layers[1](h, mask, "rte"), layer_with_branch(model, ts, h, mask), atol=1e-12)


def test_a_layer_with_a_low_rank_branch_equals_a_slow_loop():
    h, mask, _ = layer_input()
    model = randomised("low-rank", BRANCHES["low-rank"])
    ts = slow_low_rank(model.bert.layers[1].branches["rte"], h)
    assert torch.allclose(model.bert.layers[1](h, mask, "rte"), layer_with_branch(model, ts, h, mask), atol=1e-12)


def test_the_attention_of_a_pal_ignores_padding():
    h, mask, real = layer_input()
    branch = randomised("pal", BRANCHES["pal"]).bert.layers[1].branches["rte"]
    other = torch.where(real.unsqueeze(-1), h, 9.0)
    change = (branch(h, mask) - branch(other, mask)).abs()
    assert change[real].max() < 1e-12 and change[~real].max() > 1e-3


def test_all_layers_share_the_outer_projections_and_so_do_those_of_a_copy():
    objective = Objective(attached("pal+lhuc"), build("smart"))
    objective.method.attach(objective.model)
    for model in (objective.model, objective.method.parts["smart"].teacher):
        for layer in model.bert.layers:
            assert layer.base.branches["rte"].shared[0] is model.bert.pal["rte"]
    assert objective.model.bert.pal["rte"] is not model.bert.pal["rte"]


@pytest.mark.parametrize("option", BRANCHES)
def test_a_branch_whose_last_weight_is_zero_changes_no_logit_not_even_in_training(option):
    """So there is no dropout inside."""
    model, batch = attached(option, BRANCHES[option]).train(), make_batch()
    for path, p in inserted(model).items():
        if ".decode." in path:
            p.data.zero_()
    assert torch.equal(logits(model, batch), logits(make_model().train(), batch))


@pytest.mark.parametrize("option", BRANCHES)
def test_fresh_weights_of_a_branch_are_drawn_as_those_of_bert(option):
    for name, p in inserted(attached(option)).items():
        if name.endswith("bias"):
            assert not p.any()
        else:  # initializer_range is 0.3
            assert 0.28 < p.std() < 0.32, name


@pytest.mark.parametrize("option, added", [("pal", 1_819_836), ("low-rank", 1_853_616)])
@pytest.mark.parametrize("tasks", [1, 2])
def test_bert_base_has_the_parameters_that_the_header_states(option, added, tasks):
    assert count_bert_base(option, [], tasks) == (added * tasks, BASE + added * tasks)
    assert count_bert_base(option, [f"{option}.freeze=true"], tasks) == (added * tasks, added * tasks)


def test_the_number_of_heads_does_not_change_the_number_of_parameters():
    assert count_bert_base("pal", ["pal.heads=6"], tasks=1) == count_bert_base("pal", [], tasks=1)


@pytest.mark.parametrize("freeze", [False, True])
@pytest.mark.parametrize("option, parts", [("pal", ("query", "key", "value")), ("low-rank", ("encode", "decode"))])
def test_the_branches_train_with_bert_or_without_it(option, parts, freeze):
    names = both("bert.pal.rte.encode") | both("bert.pal.rte.decode") if option == "pal" else set()
    for layer in range(3):
        for part in parts:
            names |= both(f"bert.layers.{layer}.branches.rte.{part}")
    model = attached(option, BRANCHES[option] + ([f"{option}.freeze=true"] if freeze else []))
    bert = set() if freeze else set(make_model().state_dict())
    assert trained_names(model) == names | HEAD | bert


def test_each_task_has_projections_of_its_own():
    model = attached("pal", BRANCHES["pal"], TASKS["rte"], TASKS["stsb"])
    assert model.bert.pal.keys() == {"rte", "stsb"}
    assert model.bert.pal["rte"] is not model.bert.pal["stsb"]

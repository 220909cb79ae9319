"""Adapters, LHUC, PALs and low-rank branches: what they compute, add and train."""

import itertools
import math

import pytest
import torch
from support.factories import attached, inserted, make_batch, make_model

from minbert import weights
from minbert.bert import BertModel, expand_attention_mask
from minbert.classifier import SentenceModel
from minbert.config import BertConfig
from minbert.data.tasks import TASKS
from minbert.training.objective import Objective
from minbert.training.runtime import compile_layers
from regularizers import build
from regularizers.base import unwrap

RTE, STSB = TASKS["rte"], TASKS["stsb"]
PLACES = ["houlsby", "before", "after"]
# Every way to insert something; the adapters begin as exactly the identity.
INSERTIONS = {
    "houlsby": ("adapter", ["adapter.std=0"]),
    "before": ("adapter", ["adapter.place=before", "adapter.std=0"]),
    "after": ("adapter", ["adapter.place=after", "adapter.std=0"]),
    "lhuc": ("lhuc", []),
    "pal": ("pal", ["pal.size=8", "pal.heads=2"]),
    "low-rank": ("low-rank", ["low-rank.size=5"]),
}


def randomised(option: str, settings=(), *tasks, **config) -> SentenceModel:
    """In float64, with inserted weights that are far from any special value."""
    model = attached(option, settings, *tasks, **config).double().eval()
    generator = torch.Generator().manual_seed(7)
    for p in inserted(model).values():
        p.data = torch.randn(p.shape, dtype=p.dtype, generator=generator) / 2
    return model


def logits(model, batch, seed: int = 3) -> torch.Tensor:
    torch.manual_seed(seed)
    return model(batch).logits


# What they compute: slow loops over single numbers, with the paper's formula in view.


def times(linear, x: list[float]) -> list[float]:
    return [sum(w * v for w, v in zip(row, x)) + b for row, b in zip(linear.weight.tolist(), linear.bias.tolist())]


def gelu(x: list[float]) -> list[float]:
    return [v * (1 + math.erf(v / math.sqrt(2))) / 2 for v in x]


def slow_adapter(adapter, h: torch.Tensor) -> torch.Tensor:
    tokens = [[v + d for v, d in zip(x, times(adapter.up, gelu(times(adapter.down, x))))]
              for x in h.flatten(0, 1).tolist()]  # fmt: skip
    return torch.tensor(tokens, dtype=h.dtype).view_as(h)


def slow_low_rank(branch, h: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    tokens = [times(branch.decode, gelu(times(branch.encode, x))) for x in h.flatten(0, 1).tolist()]
    return torch.tensor(tokens, dtype=h.dtype).view_as(h)


def slow_pal(branch, shared, h: torch.Tensor, real: torch.Tensor, heads: int = 2, act=lambda x: x) -> torch.Tensor:
    rows = []
    for tokens, is_real in zip(h.tolist(), real.tolist()):
        narrow = [times(shared.encode, x) for x in tokens]
        q, k, v = ([times(f, x) for x in narrow] for f in (branch.query, branch.key, branch.value))
        width, row = len(narrow[0]) // heads, []
        for i in range(len(tokens)):
            out = []
            for start in range(0, width * heads, width):
                part = slice(start, start + width)
                scores = [math.exp(sum(a * b for a, b in zip(q[i][part], k[j][part])) / math.sqrt(width)) * is_real[j]
                          for j in range(len(tokens))]  # fmt: skip
                out += [sum(s * v[j][d] for j, s in enumerate(scores)) / sum(scores) for d in range(*part.indices(99))]
            row.append(act(times(shared.decode, out)))
        rows.append(row)
    return torch.tensor(rows, dtype=h.dtype)


@pytest.fixture
def layer_input():
    batch = make_batch(rows=2, tokens=4)
    h = torch.randn(2, 4, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return h, expand_attention_mask(batch.attention_mask), batch.attention_mask


@pytest.mark.parametrize("place", PLACES)
def test_an_adapter_of_each_place_equals_a_slow_loop(place, layer_input):
    (h, mask, _), model = layer_input, randomised("adapter", [f"adapter.place={place}", "adapter.size=5"])
    outer = model.bert.layers[1]
    layer = unwrap(outer)
    attention, feed_forward = unwrap(layer.attention), unwrap(layer.feed_forward)
    adapt = lambda wrapper, x: slow_adapter(wrapper.adapters["rte"], x)  # noqa: E731
    a = attention(h, mask)
    a = layer.attention_norm(h + (adapt(layer.attention, a) if place == "houlsby" else a))
    f = feed_forward(a)
    expected = layer.feed_forward_norm(a + (f if place == "after" else adapt(layer.feed_forward, f)))
    expected = adapt(outer, expected) if place == "after" else expected
    assert torch.allclose(outer(h, mask, "rte"), expected, atol=1e-12)


@pytest.mark.parametrize("option", ["pal", "code", "low-rank"])
def test_a_branch_equals_a_slow_loop(option, layer_input):
    h, mask, real = layer_input
    settings = {"pal": INSERTIONS["pal"][1], "low-rank": INSERTIONS["low-rank"][1],
                "code": ["pal.size=8", "pal.heads=4", "pal.out_act=gelu"]}[option]  # fmt: skip
    model = randomised(settings[0].split(".")[0], settings)
    outer = model.bert.layers[1]
    layer, branch = outer.base, outer.branches["rte"]
    if option == "low-rank":
        ts = slow_low_rank(branch, h, real)
    else:
        ts = slow_pal(branch, model.bert.pal["rte"], h, real, *((4, gelu) if option == "code" else ()))
    a = layer.attention_norm(h + layer.attention(h, mask))
    expected = layer.feed_forward_norm(a + layer.feed_forward(a) + ts)
    assert torch.allclose(outer(h, mask, "rte"), expected, atol=1e-12)


def test_the_attention_of_a_pal_obeys_the_padding_mask(layer_input):
    h, mask, real = layer_input
    branch = randomised(*INSERTIONS["pal"]).bert.layers[1].branches["rte"]
    other = torch.where(real.bool().unsqueeze(-1), h, 9.0)
    changed = branch(h, mask) != branch(other, mask)
    assert not changed[real.bool()].any() and changed[~real.bool()].any()


def test_lhuc_scales_each_unit_by_twice_a_sigmoid(layer_input):
    h, mask, _ = layer_input
    layer = randomised("lhuc").bert.layers[1]
    factors = [2 / (1 + math.exp(-r)) for r in layer.r["rte"].tolist()]
    expected = layer.base(h, mask) * torch.tensor(factors, dtype=h.dtype)
    assert torch.allclose(layer(h, mask, "rte"), expected, atol=1e-12)
    layer.r["rte"].data.fill_(20)
    assert torch.allclose(layer(h, mask, "rte"), 2 * layer.base(h, mask), rtol=1e-8)


# What they leave as it was.


@pytest.mark.parametrize("name", INSERTIONS)
def test_with_its_last_weight_at_zero_it_changes_no_bit_not_even_in_training(name):
    """So there is no dropout inside. LHUC starts there, adapters at std 0, branches with V^D at 0."""
    model, plain, batch = attached(*INSERTIONS[name]).train(), make_model().train(), make_batch()
    for path, p in inserted(model).items():
        if ".decode." in path:
            p.data.zero_()
    assert inserted(model) and torch.equal(logits(model, batch), logits(plain, batch))


@pytest.mark.parametrize("place", PLACES)
def test_a_fresh_adapter_hardly_changes_the_model_and_both_its_matrices_learn(place):
    model, batch = attached("adapter", [f"adapter.place={place}"]), make_batch()
    top, plain = (m.eval()(batch).hidden[-1] for m in (model, make_model()))
    assert 0 < (top - plain).abs().max() < 1e-2
    batch.task.loss(model(batch).logits, batch.labels).backward()
    assert all(p.grad.norm() > 0 for p in inserted(model).values())


def test_the_first_weights_of_an_adapter_are_cut_off_at_two_deviations():
    model = attached("adapter", ["adapter.size=500", "adapter.std=0.01"])
    for name, p in inserted(model).items():
        if name.endswith("bias"):
            assert not p.any()
        else:
            assert 0.0195 < p.abs().max() <= 0.02 and 0.0085 < p.std() < 0.0091  # 0.88 of the normal's


@pytest.mark.parametrize("option", ["pal", "low-rank"])
def test_the_first_weights_of_a_branch_are_drawn_as_those_of_bert(option):
    for name, p in inserted(attached(option)).items():
        assert not p.any() if name.endswith("bias") else 0.28 < p.std() < 0.32, name  # initializer_range is 0.3


# What they add, train, and leave alone.

BASE = 109_482_240


@pytest.mark.parametrize(
    "option, settings, added, trained",
    [
        ("adapter", [], 2_379_264, 2_417_664),
        ("adapter", ["adapter.place=before"], 1_189_632, 1_228_032),
        ("adapter", ["adapter.place=after"], 1_189_632, 1_228_032),
        ("pal", [], 1_819_836, BASE + 1_819_836),
        ("pal", ["pal.freeze=true", "pal.heads=6"], 1_819_836, 1_819_836),
        ("low-rank", [], 1_853_616, BASE + 1_853_616),
        ("low-rank", ["low-rank.freeze=true"], 1_853_616, 1_853_616),
        ("lhuc", [], 9_216, BASE + 9_216),
        ("lhuc", ["lhuc.freeze=true"], 9_216, 9_216),
        ("lhuc+adapter", [], 2_379_264 + 9_216, 2_417_664 + 9_216),
        ("adapter+pal", [], 2_379_264 + 1_819_836, 2_417_664 + 1_819_836),
        ("pal+adapter", [], 2_379_264 + 1_819_836, 2_417_664 + 1_819_836),
        ("pal+adapter", ["pal.freeze=true"], 2_379_264 + 1_819_836, 2_379_264 + 1_819_836),
    ],
)
def test_counts_of_bert_base(option, settings, added, trained):
    """Beside the head. A second task adds the same again."""
    for tasks in ([RTE], [RTE, STSB]):
        with torch.device("meta"):
            model = SentenceModel(BertModel(BertConfig()), tasks)
            build(option, settings).attach(model)
        sizes = [(p.numel(), p.requires_grad) for p in model.bert.parameters()]
        assert sum(size for size, _ in sizes) == BASE + added * len(tasks)
        assert sum(size for size, trains in sizes if trains) == trained + added * (len(tasks) - 1)


def names_that_train(model) -> set[str]:
    return set(weights.trained(model))


def expected_names(name: str) -> set[str]:
    """Of what an insertion alone adds, in a model of three layers."""
    both = lambda path: {f"{path}.weight", f"{path}.bias"}  # noqa: E731
    places = {"houlsby": ["attention.", "feed_forward."], "before": ["feed_forward."], "after": [""]}
    found = set()
    for layer in (f"bert.layers.{i}" for i in range(3)):
        for place in places.get(name, []):
            found |= both(f"{layer}.{place}adapters.rte.down") | both(f"{layer}.{place}adapters.rte.up")
        for part in {"pal": ("query", "key", "value"), "low-rank": ("encode", "decode")}.get(name, []):
            found |= both(f"{layer}.branches.rte.{part}")
        found |= {f"{layer}.r.rte"} if name == "lhuc" else set()
    return found | (both("bert.pal.rte.encode") | both("bert.pal.rte.decode") if name == "pal" else set())


@pytest.mark.parametrize("name", INSERTIONS)
def test_the_names_of_all_that_trains_and_the_rest_keeps_its_bits(name):
    option, settings = INSERTIONS[name]
    heads = {"heads.rte.weight", "heads.rte.bias"}
    norms = {n for n, _ in make_model().named_parameters() if "norm" in n}
    assert len(norms) == 14
    if option != "adapter":
        assert names_that_train(attached(option, settings)) == set(make_model().state_dict()) | expected_names(name)
        settings, norms = [*settings, f"{option}.freeze=true"], set()
    model, batch = attached(option, settings), make_batch()
    assert names_that_train(model) == norms | heads | expected_names(name)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    batch.task.loss(model(batch).logits, batch.labels).backward()
    torch.optim.SGD(model.parameters(), lr=1e-2, weight_decay=0.1).step()
    for path, p in model.named_parameters():
        assert p.requires_grad or torch.equal(p, before[path]), path


@pytest.mark.parametrize("name", INSERTIONS)
def test_a_batch_trains_the_modules_of_its_own_task(name):
    model, batch = attached(*INSERTIONS[name], RTE, STSB), make_batch(STSB)
    batch.task.loss(model(batch).logits, batch.labels).backward()
    for path, p in inserted(model).items():
        assert (p.grad is None) == (".rte" in path) and (".rte" in path) != (".stsb" in path)


def test_v_e_and_v_d_are_one_tensor_each_in_all_layers_and_in_a_copy_of_the_model():
    objective = Objective(attached("pal+lhuc"), build("smart"))
    objective.method.attach(objective.model)
    for model in (objective.model, objective.method.parts["smart"].teacher):
        for layer in model.bert.layers:
            assert layer.base.branches["rte"].shared[0] is model.bert.pal["rte"]
    assert objective.model.bert.pal["rte"] is not model.bert.pal["rte"]


@pytest.mark.parametrize("option", ["adapter+lhuc", "adapter+pal", "pal+lhuc", "adapter+pal+lhuc", "low-rank+adapter"])
@pytest.mark.parametrize("place", PLACES)
def test_the_order_in_which_they_are_written_does_not_matter(option, place):
    """The same place for each module, even if they attach without a Sum that could sort them."""
    outputs = []
    for names in itertools.permutations(option.split("+")):
        model = make_model().double().eval()
        for name in names:
            build(name, [f"adapter.place={place}"] if name == "adapter" else []).attach(model)
        for path, p in inserted(model).items():
            generator = torch.Generator().manual_seed(len(weights.plain_name(path)) + p.numel())
            p.data = torch.randn(p.shape, dtype=torch.float64, generator=generator) / 2
        outputs.append(logits(model, make_batch()))
        for layer in model.bert.layers:
            ranks = [part.rank for part in chain(layer)]
            assert ranks == sorted(ranks, reverse=True)
            assert ("lhuc" in names) == hasattr(layer, "r")  # the outermost
    assert all(torch.equal(outputs[0], other) for other in outputs)


def chain(layer):
    """All that is around a layer, the outermost first."""
    return [layer, *chain(layer.base)] if hasattr(layer, "base") else []


@pytest.mark.parametrize("name", INSERTIONS)
def test_compiled_layers_compute_the_same(name):
    option, settings = INSERTIONS[name]
    eager, compiled = randomised(option, settings), randomised(option, settings)
    compile_layers(compiled, backend="eager")
    assert torch.allclose(logits(eager, make_batch()), logits(compiled, make_batch()), atol=1e-12)

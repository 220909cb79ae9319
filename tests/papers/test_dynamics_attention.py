"""Figure 1 of the dynamics paper: the divergence equals slow references, and looking into a model leaves no trace."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import jensenshannon
from support.factories import attached, make_batch, make_dataset, make_model

from minbert import weights
from minbert.data.tasks import TASKS
from minbert.errors import InputError
from papers.dynamics import attention
from papers.dynamics.attention import attention_divergence, divergence_of_examples, jensen_shannon
from papers.dynamics.inside import attention_probabilities, hidden_states
from regularizers.base import Wrapper, unwrap

CPU = torch.device("cpu")
OPTIONS = ["finetune", "adapter", "lhuc", "pal", "lora", "mixout", "adapter+lora+lhuc"]


def random_model(option: str = "finetune", seed: int = 0, **config):
    """In float64 and eval mode, with random numbers in the inserted modules: they are the identity at first."""
    model = attached(option, (), seed=seed, **config).double().eval()
    generator = torch.Generator().manual_seed(seed)
    for p in model.bert.parameters():
        p.data += 0.1 * torch.randn(p.shape, generator=generator, dtype=p.dtype)
    return model


def distributions(*shape: int, seed: int = 0) -> torch.Tensor:
    """With zeros among the probabilities."""
    values = torch.rand(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    values[values < 0.3] = 0.0
    values[..., 0] += 0.1
    return values / values.sum(-1, keepdim=True)


def slow_attention(model, batch) -> list[np.ndarray]:
    """The probabilities [B,H,T,T] of each layer with loops, from the layer's input. Without LoRA."""
    results = []
    for layer, h in zip(model.bert.layers, hidden_states(model, batch)):
        module = unwrap(unwrap(layer).attention)
        q, k = module.query(h).detach().numpy(), module.key(h).detach().numpy()
        (B, T, width), heads = q.shape, module.heads
        d = width // heads
        result = np.zeros((B, heads, T, T))
        for b, head, i in np.ndindex(B, heads, T):
            part, real = slice(head * d, (head + 1) * d), int(batch.attention_mask[b].sum())
            scores = [math.exp(q[b, i, part] @ k[b, j, part] / math.sqrt(d)) for j in range(real)]
            result[b, head, i, :real] = np.array(scores) / sum(scores)
        results.append(result)
    return results


def slow_divergence(p: np.ndarray, q: np.ndarray, mask: np.ndarray) -> float:
    """(m2) with loops over examples, heads, words, and scipy's divergence (a distance, whose square it is)."""
    examples = []
    for b in range(len(p)):
        real = int(mask[b].sum())
        heads = [
            np.mean([jensenshannon(p[b, head, i, :real], q[b, head, i, :real]) ** 2 for i in range(real)])
            for head in range(p.shape[1])
        ]
        examples.append(np.mean(heads))
    return float(np.mean(examples))


def test_the_divergence_is_that_of_scipy():
    p, q = distributions(5, 3, 7), distributions(5, 3, 7, seed=1)
    expected = jensenshannon(p.numpy(), q.numpy(), axis=-1) ** 2
    assert jensen_shannon(p, q).numpy() == pytest.approx(expected, abs=1e-12)


def test_the_divergence_of_equal_distributions_is_zero_and_of_disjoint_ones_ln_2():
    p, q = torch.tensor([0.25, 0.75, 0.0, 0.0]), torch.tensor([0.0, 0.0, 0.5, 0.5])
    assert jensen_shannon(p, p) == 0.0
    assert jensen_shannon(p, q).item() == pytest.approx(math.log(2), abs=1e-7)


def test_the_divergence_is_symmetric_and_lies_between_0_and_ln_2():
    p, q = distributions(50, 6), distributions(50, 6, seed=1)
    divergences = jensen_shannon(p, q)
    assert torch.allclose(divergences, jensen_shannon(q, p), rtol=0, atol=1e-15)
    assert divergences.min() > 0 and divergences.max() < math.log(2)


def test_each_example_counts_once_and_padding_not_at_all():
    p, q = distributions(4, 3, 7, 7), distributions(4, 3, 7, 7, seed=1)
    mask = torch.arange(7) < torch.tensor([[7], [2], [5], [1]])
    for x in (p, q):  # as a model gives them: no probability on padding
        x *= mask[:, None, None]
        x /= x.sum(-1, keepdim=True)
    assert divergence_of_examples(p, q, mask).mean().item() == pytest.approx(slow_divergence(p, q, mask), abs=1e-12)


@pytest.mark.parametrize("option", ["finetune", "adapter", "lhuc", "pal", "mixout"])
def test_the_probabilities_are_those_of_slow_loops(option):
    model, batch = random_model(option), make_batch()
    for found, expected in zip(attention_probabilities(model, batch), slow_attention(model, batch), strict=True):
        assert found.detach().numpy() == pytest.approx(expected, abs=1e-12)


def test_the_probabilities_of_lora_are_those_of_the_merged_model():
    model, batch = random_model("lora"), make_batch()
    merged = attention_probabilities(weights.merge(model), batch)
    for found, expected in zip(attention_probabilities(model, batch), merged, strict=True):
        assert torch.allclose(found, expected, rtol=0, atol=1e-12)


def test_alberts_shared_attention_is_recorded_once_for_each_layer():
    model, batch = random_model(family="albert"), make_batch()
    for found, expected in zip(attention_probabilities(model, batch), slow_attention(model, batch), strict=True):
        assert found.detach().numpy() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("option", OPTIONS)
def test_nothing_stays_in_the_model(option):
    model, batch = random_model(option), make_batch()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    logits, attributes = model(batch).logits, {path: set(vars(m)) for path, m in model.named_modules()}
    attention_probabilities(model, batch)
    assert {path: set(vars(m)) for path, m in model.named_modules()} == attributes
    assert not any(module._forward_hooks for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(model(batch).logits, logits)


def test_no_hook_stays_after_an_error():
    model = random_model()
    model.bert.layers[1].feed_forward = None
    with pytest.raises(TypeError):
        attention_probabilities(model, make_batch())
    assert not any(module._forward_hooks for module in model.modules())


class Uniform(Wrapper):
    """An attention that does not call the one inside."""

    def forward(self, h, mask, task=None):
        return h


def test_a_method_that_hides_its_probabilities_is_refused():
    model = random_model()
    layer = model.bert.layers[1]
    layer.attention = Uniform().wrap(layer.attention)
    with pytest.raises(InputError, match="cannot be seen"):
        attention_probabilities(model, make_batch())


def test_a_model_of_one_task_reads_the_examples_of_another():
    model = random_model("adapter")
    assert len(attention_probabilities(model, make_batch(TASKS["mrpc"]))) == 3


def test_the_divergence_of_two_models_is_that_of_slow_loops():
    first, second, dataset = random_model(seed=1), random_model(seed=2), make_dataset(size=7)
    batch = dataset.collate(list(range(7)))
    layers = zip(slow_attention(first, batch), slow_attention(second, batch))
    expected = [slow_divergence(p, q, batch.attention_mask.numpy()) for p, q in layers]
    found = attention_divergence(first, second, [dataset], 3, CPU, "")
    assert found.tolist() == pytest.approx(expected, abs=1e-12)
    assert min(expected) > 1e-3


@pytest.mark.parametrize("batch_size", [1, 5, 24])
def test_the_divergence_does_not_depend_on_the_batches(batch_size):
    """Neither on how much padding an example has, nor on its place."""
    first, second, dataset = random_model(seed=1), random_model("lhuc", seed=2), make_dataset()
    whole = attention_divergence(first, second, [dataset], 7, CPU, "")
    assert torch.allclose(
        attention_divergence(first, second, [dataset], batch_size, CPU, ""), whole, rtol=0, atol=1e-12
    )


def test_the_examples_of_two_datasets_are_pooled():
    first, second = random_model(seed=1), random_model(seed=2)
    datasets = [make_dataset(size=5, seed=1), make_dataset(TASKS["mrpc"], size=9, seed=2)]
    a, b = (attention_divergence(first, second, [dataset], 4, CPU, "") for dataset in datasets)
    both = attention_divergence(first, second, datasets, 4, CPU, "")
    assert torch.allclose(both, (5 * a + 9 * b) / 14, rtol=0, atol=1e-12)


def test_a_model_does_not_diverge_from_itself(device):
    model = make_model().eval().to(device)
    assert not attention_divergence(model, model, [make_dataset()], 8, device, "").any()


def test_the_script_writes_the_divergence_of_each_run_and_layer(runs, tmp_path, capsys):
    argv = [str(run.folder) for run in runs]
    assert attention.main([*argv, "--out", str(tmp_path), "--device", "cpu"]) == 0
    captured = capsys.readouterr()
    header, *rows = [line.split("\t") for line in (tmp_path / "attention.tsv").read_text().splitlines()]
    assert header == ["line", "run", "layer", "divergence"]
    assert [row[:3] for row in rows] == [["rte", f"rte-seed{s}", str(layer)] for s in (0, 1) for layer in (1, 2, 3, 4)]
    assert all(0 < float(row[3]) < 0.01 for row in rows)  # two steps move little
    assert (tmp_path / "attention.png").stat().st_size > 10_000
    assert captured.err == ""

"""Figure 2 of the dynamics paper: SVCCA against independent routes, its invariances, and the choice of tokens."""

import math
from functools import partial

import pytest
import torch
from support.factories import KINDS, make_dataset, make_model

from minbert.errors import InputError
from papers.dynamics import svcca as script
from papers.dynamics.inside import TokenSample, hidden_states
from papers.dynamics.svcca import layer_distances, svcca

CPU = torch.device("cpu")


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def correlated(n: int, width: int, other: int, noise: float, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """X [n,width] and Y [n,other], linear in a few common variables, with noise and unequal scales."""
    common = normal(n, 6, seed=seed)
    x = common @ normal(6, width, seed=seed + 1) + noise * normal(n, width, seed=seed + 2)
    y = common @ normal(6, other, seed=seed + 3) + noise * normal(n, other, seed=seed + 4)
    return x * torch.logspace(0, -1, width) + 3, y * torch.logspace(-1, 0, other) - 1


def rotation(width: int) -> torch.Tensor:
    return torch.linalg.qr(normal(width, width, seed=9))[0]


def orthonormal(n: int, k: int, seed: int = 0) -> torch.Tensor:
    """Columns [n,k] of mean 0 and length 1, at right angles to each other."""
    x = normal(n, k, seed=seed)
    return torch.linalg.qr(x - x.mean(0))[0]


def qr_route(x: torch.Tensor, y: torch.Tensor, k1: int, k2: int) -> float:
    """The distance without an SVD of the states: eigenvectors of the covariance, then QR of the projections."""
    bases = []
    for matrix, k in ((x, k1), (y, k2)):
        centred = matrix - matrix.mean(0)
        _, vectors = torch.linalg.eigh(centred.T @ centred)  # ascending
        bases.append(torch.linalg.qr(centred @ vectors[:, -k:])[0])
    return 1 - torch.linalg.svdvals(bases[0].T @ bases[1]).sum().item() / min(k1, k2)


@pytest.mark.parametrize("width, other, noise", [(7, 11, 0.3), (13, 5, 2.0), (24, 24, 0.05)])
@pytest.mark.parametrize("variance", [1.0, 0.99, 0.7])
def test_it_equals_the_qr_route(width, other, noise, variance):
    x, y = correlated(503, width, other, noise)
    found = svcca(x, y, variance)
    assert found.distance == pytest.approx(qr_route(x, y, found.k1, found.k2), abs=1e-6)
    assert (found.k1, found.k2) == (width, other) if variance == 1 else found.k1 < width or found.k2 < other


def test_known_correlations():
    """Correlations cos .4 and 0: the distance is 1 - cos(.4)/2."""
    u = orthonormal(50, 4)
    x, y = u[:, :2] * 3, torch.stack([math.cos(0.4) * u[:, 0] + math.sin(0.4) * u[:, 2], u[:, 3]], dim=1)
    assert svcca(x, y).distance == pytest.approx(1 - math.cos(0.4) / 2, abs=1e-12)


def test_directions_are_kept_until_they_hold_99_percent_of_the_squares():
    """Shares .9, .08, .015, .005 of the variance: three of them. By sums of s in place of s² it would be all four."""
    x = orthonormal(50, 4) * torch.tensor([0.9, 0.08, 0.015, 0.005], dtype=torch.float64).sqrt()
    y = orthonormal(50, 7, seed=1)
    assert svcca(x, y)[2:] == (50, 3, 7)
    assert svcca(y, x)[2:] == (50, 7, 3)


def test_a_layer_has_distance_0_from_its_rotation_scale_and_shift():
    x, _ = correlated(301, 17, 3, 0.5)
    for other in (x, x @ rotation(17), -2.5 * x + normal(17, seed=4), 1e-4 * x @ rotation(17)):
        assert svcca(x, other).distance == pytest.approx(0, abs=1e-9)


def test_any_invertible_map_gives_0_without_truncation_only():
    x, _ = correlated(301, 17, 3, 0.5)
    y = x @ normal(17, 17, seed=5)
    assert svcca(x, y, 1.0).distance == pytest.approx(0, abs=1e-9)
    assert svcca(x, y, 0.9).distance > 1e-3


def test_it_is_symmetric():
    x, y = correlated(301, 17, 9, 1.0)
    there, back = svcca(x, y), svcca(y, x)
    assert there.distance == pytest.approx(back.distance, abs=1e-12)
    assert 0.01 < there.distance < 0.99


def test_independent_outputs_are_far_apart_if_there_are_enough_tokens():
    far = [svcca(normal(n, 16), normal(n, 16, seed=1)).distance for n in (20, 160, 20_000)]
    assert far[0] < 0.5 < far[1] < 0.97 < far[2]


def test_the_papers_divisor_gives_a_layer_a_distance_from_itself():
    x, _ = correlated(301, 17, 3, 0.5)
    found = svcca(x, x)
    assert found.literal == pytest.approx(1 - found.k1 / 17, abs=1e-9) and found.k1 < 17


@pytest.mark.parametrize("value", [0.0, 1.0, 0.1, -1e-9, 1e9])
@pytest.mark.parametrize("n", [30, 1000, 2003])
def test_a_constant_layer_has_no_distance(n, value):
    """0.1 has no mean of exactly 0.1 for every n."""
    found = svcca(torch.full((n, 4), value, dtype=torch.float64), normal(n, 4))
    assert math.isnan(found.distance) and found[2:] == (n, 0, 4)


def test_small_changes_far_from_0_are_no_rounding():
    x = normal(1000, 4)
    assert svcca(1000 + 1e-6 * x, x).distance == pytest.approx(0, abs=1e-6)


def test_too_few_tokens_are_refused():
    x = normal(79, 8)
    with pytest.raises(InputError, match=r"rte-seed0: 8 directions need 80 tokens or more, and there are 79"):
        layer_distances([x], [x], "rte-seed0")
    assert len(layer_distances([normal(80, 8)], [normal(80, 8)], "")) == 1


def ids(batch) -> list[torch.Tensor]:
    """In place of hidden states [B,T,1]: the ids of the tokens; -1 for padding."""
    return [batch.input_ids.where(batch.attention_mask, -1)[..., None].float()]


@pytest.mark.parametrize("kind", ["two classes", "separate classes"])
def test_all_tokens_are_the_real_tokens_in_the_order_of_the_examples(kind):
    dataset = make_dataset(KINDS[kind])
    tokens = TokenSample([dataset], 10_000)
    (found,) = tokens.collect(ids, 5, CPU, "")
    assert found[:, 0].tolist() == dataset.ids.tolist()


def test_a_subset_has_the_same_tokens_for_every_batch_size():
    dataset = make_dataset()
    tokens = TokenSample([dataset], 50)
    (found,) = tokens.collect(ids, 5, CPU, "")
    assert found.shape == (50, 1) and found.min() >= 0
    for batch_size in (1, 24):
        assert torch.equal(TokenSample([dataset], 50).collect(ids, batch_size, CPU, "")[0], found)


def test_a_subset_is_drawn_from_all_datasets_without_repetition():
    first, second = make_dataset(size=9, seed=1), make_dataset(size=30, seed=2)
    tokens = TokenSample([first, second], 60)
    rows = torch.cat(tokens.rows)
    assert rows[rows >= 0].tolist() == list(range(60))
    assert 5 < (tokens.rows[0] >= 0).sum() < 25  # 9 of 39 examples
    everything = torch.cat([first.ids, second.ids])
    (found,) = tokens.collect(ids, 4, CPU, "")
    assert found[:, 0].tolist() == everything[rows >= 0].tolist()


def test_a_model_has_distance_0_from_itself_in_every_layer(device):
    model, tokens = make_model().eval().to(device), TokenSample([make_dataset()], 200)
    states = [tokens.collect(partial(hidden_states, model), size, device, "") for size in (3, 24)]
    assert [len(x) for x in states] == [4, 4]  # the embeddings and three layers
    assert [d.distance for d in layer_distances(*states, "")] == pytest.approx([0] * 4, abs=1e-6)


def test_the_script_writes_the_distance_of_each_run_and_layer(runs, tmp_path, capsys):
    argv = [str(runs[0].folder), "--tokens", "1000", "--device", "cpu"]
    assert script.main([*argv, "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().err == ""
    header, *rows = [line.split("\t") for line in (tmp_path / "svcca.tsv").read_text().splitlines()]
    assert header == ["line", "run", "layer", "distance", "literal", "n", "k1", "k2"]
    assert [row[:3] for row in rows] == [["rte", "rte-seed0", str(layer)] for layer in range(5)]
    for _, _, _, distance, literal, n, k1, k2 in rows:
        assert 0 <= float(distance) < 0.01  # two steps move little
        assert n == "1000" and 10 < int(k1) <= 100
        shared = min(int(k1), int(k2))
        assert float(literal) == pytest.approx(1 - shared / 128 * (1 - float(distance)), abs=1e-5)
    assert (tmp_path / "svcca.png").stat().st_size > 10_000


def test_the_script_refuses_too_few_tokens(runs, tmp_path, capsys):
    assert script.main([str(runs[0].folder), "--tokens", "100", "--out", str(tmp_path)]) == 2
    assert "need" in capsys.readouterr().err and not list(tmp_path.iterdir())

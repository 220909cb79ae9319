"""The surface of the loss: equal to direct evaluation at the three models, and no parameter changes."""

import csv

import numpy as np
import pytest
import torch

from minbert.errors import InputError
from papers.finished_run import FinishedRun
from papers.stability import surface as script
from papers.stability.surface import ANCHORS, Plane, Value, barrier, evaluate, grid, parameters_of, segment, surface
from tests.support.factories import make_batch, make_model

EXAMPLES = [make_batch(rows=5, tokens=7), make_batch(rows=3, tokens=9, seed=1)]


@pytest.fixture
def models():
    """Three models without dropout, in float64, with a frozen weight."""
    models = {}
    for seed, place in enumerate(ANCHORS):
        models[place] = make_model(seed=seed).double().eval()
        models[place].bert.layers[0].attention.query.weight.requires_grad_(False)
    return models


def direct_loss(model) -> torch.Tensor:
    """The mean over all examples, one after the other."""
    losses = []
    for batch in EXAMPLES:
        logits = model(batch).logits
        losses += [torch.nn.functional.cross_entropy(logits[i], batch.labels[i]) for i in range(len(batch))]
    return torch.stack(losses).mean()


@pytest.mark.parametrize("place", ANCHORS)
def test_the_plane_goes_through_the_three_models(models, place):
    loss, _ = evaluate(models["pretrained"], Plane(*models.values()).at(*ANCHORS[place]), EXAMPLES, gradient=False)
    assert loss == pytest.approx(direct_loss(models[place]).item(), rel=1e-9)


def test_the_plane_is_linear_in_every_parameter(models):
    point = Plane(*models.values()).at(-0.7, 1.3)
    p, f, s = (dict(model.named_parameters()) for model in models.values())
    assert set(point) == set(p) and "heads.rte.weight" in point
    for name, value in point.items():
        torch.testing.assert_close(value, p[name] - 0.7 * (f[name] - p[name]) + 1.3 * (s[name] - p[name]))


def test_the_norm_is_that_of_the_whole_gradient(models):
    model = models["failed"].requires_grad_(True)
    direct_loss(model).backward()
    expected = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0).item()
    _, norm = evaluate(models["successful"], parameters_of(model), EXAMPLES, gradient=True)
    assert norm == pytest.approx(expected, rel=1e-9)


def test_the_norm_is_the_slope_of_the_surface_on_the_steepest_way(models):
    """Finite differences along the gradient."""
    model = models["failed"].requires_grad_(True)
    direct_loss(model).backward()
    _, norm = evaluate(model, parameters_of(model), EXAMPLES, gradient=True)
    step = 1e-6 / norm
    ends = [
        evaluate(model, {n: p.detach() + sign * step * p.grad for n, p in model.named_parameters()}, EXAMPLES, False)[0]
        for sign in (1, -1)
    ]
    assert (ends[0] - ends[1]) / 2e-6 == pytest.approx(norm, rel=1e-5)


def test_no_parameter_of_the_models_changes(models):
    before = {place: {n: p.clone() for n, p in model.state_dict().items()} for place, model in models.items()}
    list(surface(models, EXAMPLES, points=3, gradient=True))
    for place, model in models.items():
        assert all(torch.equal(p, before[place][name]) for name, p in model.state_dict().items())
        assert all(p.grad is None for p in model.parameters())


def test_the_places_of_the_values(models):
    values = list(surface(models, EXAMPLES, points=4, gradient=False))
    assert [value.place for value in values] == [*ANCHORS, *["between"] * 21, *["grid"] * 16]
    by_place = {value.place: value.loss for value in values}
    on_line = [value.loss for value in values if value.place == "between"]
    assert on_line[0] == pytest.approx(by_place["failed"]) and on_line[-1] == pytest.approx(by_place["successful"])
    assert all(value.gradient_norm is None for value in values)


def test_the_grid_of_the_paper_has_1600_points_and_neither_0_nor_1():
    points = grid(40)
    alphas = sorted({alpha for alpha, _ in points})
    assert len(points) == 1600 and alphas[0] == -1.5 and alphas[-1] == 1.5
    assert alphas[1] - alphas[0] == pytest.approx(0.0769, abs=1e-4)
    assert min(abs(alpha) for alpha in alphas) > 0.03 and min(abs(alpha - 1) for alpha in alphas) > 0.03
    assert points[1] == (alphas[1], -1.5)  # α is the inner loop: the columns of the picture


def test_the_barrier_is_measured_from_the_failed_run():
    assert barrier([0.7, 0.9, 0.2, 0.1]) == pytest.approx(0.2)
    assert barrier([0.7, 0.6, 0.1]) == 0
    assert segment(3) == [(1.0, 0.0), (0.5, 0.5), (0.0, 1.0)]


def test_a_shared_layer_moves_once():
    models = [make_model(seed=seed, family="albert").double().eval() for seed in range(3)]
    plane = Plane(*models)
    loss, norm = evaluate(models[0], plane.at(0, 1), EXAMPLES, gradient=True)
    direct = direct_loss(models[2])
    direct.backward()
    assert loss == pytest.approx(direct.item())
    assert norm == pytest.approx(torch.nn.utils.clip_grad_norm_(models[2].parameters(), 1.0).item())


def test_models_of_other_shapes_are_refused(models):
    with pytest.raises(InputError, match="do not have the same parameters"):
        Plane(models["pretrained"], models["failed"], make_model(num_hidden_layers=2))


def test_a_picture_of_values_that_are_0_equal_or_infinite():
    values = [Value(place, *where, 1.0, 0.0) for place, where in ANCHORS.items()]
    values += [Value("grid", a, b, 1.0, 0.0) for a, b in grid(3)]
    for heights in ([0.0] * 12, [1.0] * 12, [1.0] * 11 + [np.inf]):
        for levels in (script.loss_levels, script.gradient_levels):
            script.surface_figure(values, heights, levels, "title", "unit").canvas.draw()


def test_the_script_writes_its_files(runs, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(FinishedRun, "failed", property(lambda run: run.folder == runs[1].folder))
    folders = [str(run.folder) for run in runs]
    argv = [*folders, "--points", "2", "--examples", "9", "--gradient", "--device", "cpu", "--out", str(tmp_path)]
    assert script.main(argv) == 0
    rows = list(csv.DictReader((tmp_path / "surface.tsv").open(), delimiter="\t"))
    assert len(rows) == 3 + 21 + 4 and all(float(row["gradient_norm"]) > 0 for row in rows)
    assert {path.name for path in tmp_path.glob("*.png")} == {"surface.png", "surface-gradient.png"}
    assert "barrier: " in capsys.readouterr().out


def test_two_runs_of_one_kind_are_refused(runs, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(FinishedRun, "failed", property(lambda run: False))
    assert script.main([*(str(run.folder) for run in runs), "--out", str(tmp_path)]) == 2
    assert "one failed and one successful RUN" in capsys.readouterr().err


def test_a_surface_of_one_point_is_refused(runs, tmp_path, capsys):
    argv = [*(str(run.folder) for run in runs), "--points", "1", "--out", str(tmp_path)]
    assert script.main(argv) == 2
    assert capsys.readouterr().err.endswith("argument --points: must be at least 2, not 1\n")

"""The factor of Adam's bias correction: closed form, minbert's AdamW, torch's AdamW."""

import csv

import numpy as np
import pytest
import torch

from papers.stability.bias_correction import correction_factors, factor_figure, main, measured_factors

FIGURE = (0.9, 0.999)


def test_the_factors_of_the_paper():
    factors = correction_factors(5000, *FIGURE)
    assert factors[0] == pytest.approx(0.001**0.5 / 0.1)
    assert factors.argmin() + 1 == 12 and factors[11] == pytest.approx(0.15, abs=0.005)
    assert factors[-1] == pytest.approx(1, abs=0.01) and (np.diff(factors[11:]) > 0).all()


@pytest.mark.parametrize("betas", [FIGURE, (0.9, 0.98), (0.0, 0.5)])
def test_adamw_makes_its_steps_shorter_by_the_factor(betas):
    np.testing.assert_allclose(measured_factors(37, *betas), correction_factors(37, *betas), rtol=1e-12)


def test_the_corrected_steps_are_those_of_torch():
    """torch's AdamW with ε = 0, where the place of ε makes no difference: its step is factor x m / √v."""
    gradients = torch.linspace(1, 3, 7, dtype=torch.float64)
    theirs = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.AdamW([theirs], lr=1.0, betas=FIGURE, eps=0.0, weight_decay=0.0)
    m = v = 0.0
    for factor, gradient in zip(correction_factors(7, *FIGURE), gradients):
        before, theirs.grad = theirs.item(), gradient[None].clone()
        optimizer.step()
        m, v = 0.9 * m + 0.1 * gradient.item(), 0.999 * v + 0.001 * gradient.item() ** 2
        assert before - theirs.item() == pytest.approx(factor * m / v**0.5, rel=1e-12)


@pytest.mark.parametrize("betas", [FIGURE, (0.9, 0.98)])
def test_the_picture_shows_the_whole_curve(betas):
    """β₂ = .98 makes the first step longer: the factor is 1.41."""
    factors = correction_factors(30, *betas)
    (axes,) = factor_figure(factors, factors).axes
    assert axes.get_ylim()[1] > max(1, factors.max())


def test_the_script_writes_its_files(tmp_path):
    assert main(["--steps", "30", "--betas", "0.8", "0.99", "--out", str(tmp_path)]) == 0
    rows = list(csv.DictReader((tmp_path / "bias_correction.tsv").open(), delimiter="\t"))
    assert len(rows) == 30 and float(rows[0]["factor"]) == pytest.approx(0.5)
    assert all(row["factor"] == row["measured"] for row in rows)
    assert (tmp_path / "bias_correction.png").exists()


def test_a_beta_of_one_is_refused(tmp_path, capsys):
    assert main(["--betas", "0.9", "1", "--out", str(tmp_path)]) == 2
    assert "--betas" in capsys.readouterr().err

"""papers/lnsr/attenuation.py: the noise has 5 % of the norm, and is propagated by the layers above it alone."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from support.factories import KINDS, make_batch, make_dataset, make_model
from torch import nn

from minbert.errors import InputError
from papers.finished_run import FinishedRun, check_same_data
from papers.lnsr.attenuation import (
    SHARE,
    Curves,
    add_noise,
    check_starts,
    default_starts,
    errors,
    last_ratio,
    main,
    mean_of,
    measure,
    text_norms,
)
from regularizers.perturbation import draw_noise


class Scale(nn.Module):
    """A layer that multiplies all states by a number."""

    def __init__(self, factor: float):
        super().__init__()
        self.factor = factor

    def forward(self, h, mask, task=None):
        return self.factor * h


def model_in_eval_mode(**changes):
    return make_model(**changes).double().eval()


def with_layers(*factors: float):
    """A model whose layers only scale their input."""
    model = model_in_eval_mode(num_hidden_layers=len(factors))
    model.bert.layers = nn.ModuleList(Scale(factor) for factor in factors)
    return model


@torch.no_grad()
def clean(model, batch):
    return model(batch).hidden


@pytest.mark.parametrize("start", range(4))
def test_the_error_is_five_percent_at_the_layer_with_noise(start):
    model, batch = model_in_eval_mode(), make_batch(rows=5, tokens=7)
    hidden = clean(model, batch)
    norms, ratios = errors(model, batch, hidden, start)
    assert norms.shape == ratios.shape == (5, 4 - start)
    expected = [SHARE * hidden[start][i, : 7 - i].norm().item() for i in range(5)]
    assert norms[:, 0].tolist() == pytest.approx(expected, rel=1e-12)
    assert ratios[:, 0].tolist() == pytest.approx([SHARE] * 5, rel=1e-12)


def test_padding_gets_no_noise_and_does_not_count():
    batch = make_batch(rows=4, tokens=6)
    h = torch.randn(4, 6, 12, dtype=torch.float64)
    noisy, padding = add_noise(h, batch.attention_mask), ~batch.attention_mask
    assert padding.any() and torch.equal(noisy[padding], h[padding])
    assert (noisy[~padding] != h[~padding]).all()
    assert torch.equal(text_norms(h, batch.attention_mask), text_norms(h + 7 * padding.unsqueeze(-1), ~padding))


@pytest.mark.parametrize("start", [0, 2])
def test_errors_are_those_of_single_texts_without_padding(start):
    """A slow reference: each text alone, one layer after the other."""
    model, batch = model_in_eval_mode(), make_batch(rows=4, tokens=7, seed=3)
    hidden = clean(model, batch)
    torch.manual_seed(1)
    norms, ratios = errors(model, batch, hidden, start)
    torch.manual_seed(1)
    noise = draw_noise(hidden[start], batch.attention_mask)
    for i in range(4):
        real = int(batch.attention_mask[i].sum())
        before, size = hidden[start][i : i + 1, :real], noise[i, :real].flatten().norm()
        after = before + noise[i, :real] * (SHARE * before.flatten().norm() / size)
        mask = torch.ones(1, 1, 1, real, dtype=torch.bool)
        for k in range(4 - start):
            if k:
                with torch.no_grad():
                    before, after = (model.bert.layers[start + k - 1](h, mask) for h in (before, after))
            difference, output = np.linalg.norm((after - before).numpy()), np.linalg.norm(before.numpy())
            assert norms[i, k].item() == pytest.approx(difference, rel=1e-10)
            assert ratios[i, k].item() == pytest.approx(difference / output, rel=1e-10)


def test_identity_layers_keep_the_error():
    model, batch = with_layers(1, 1, 1, 1), make_batch()
    norms, ratios = errors(model, batch, clean(model, batch), 1)
    assert torch.allclose(ratios, torch.full_like(ratios, SHARE), rtol=1e-12)
    assert torch.allclose(norms, norms[:, :1].expand_as(norms), rtol=1e-12)


def test_the_curves_are_means_over_all_texts():
    """Layers that scale by 2 and by 3: norm and ratio follow from the embeddings alone, for batches of any size."""
    model, dataset = with_layers(2, 3), make_dataset(size=11)
    norms, ratios = measure(model, dataset, [0, 1], draws=2, batch_size=4)
    with torch.no_grad():
        h = [model.embed(dataset.collate([row]))[0].norm().item() for row in range(11)]
    embedded = SHARE * float(np.mean(h))
    np.testing.assert_allclose(norms, [[embedded, 2 * embedded, 6 * embedded], [np.nan, 2 * embedded, 6 * embedded]])
    np.testing.assert_allclose(ratios, [[SHARE] * 3, [np.nan, SHARE, SHARE]])


def test_the_draws_are_averaged_and_the_same_for_each_call():
    model, dataset = model_in_eval_mode(), make_dataset(size=7)
    one, again, three = (measure(model, dataset, [1], draws, batch_size=3).norms for draws in (1, 1, 3))
    assert np.array_equal(one, again, equal_nan=True)
    assert one[0, 1] == pytest.approx(three[0, 1], rel=1e-12) and one[0, 3] != three[0, 3]


def test_dropout_is_off():
    model, dataset = make_model(hidden_dropout_prob=0.5).double().train(), make_dataset(size=7)
    noisy = measure(model, dataset, [3], 1, 4).ratios
    assert noisy[0, 3] == pytest.approx(SHARE, rel=1e-12)
    again = measure(model.eval(), dataset, [0], 1, 4).norms
    assert np.array_equal(again, measure(model.train(), dataset, [0], 1, 4).norms)


def test_sentences_that_are_encoded_separately_are_two_texts():
    task = KINDS["separate classes"]
    model = make_model(task).double().eval()
    assert measure(model, make_dataset(task, size=5), [0], 1, 2).ratios[0, 0] == pytest.approx(SHARE, rel=1e-12)


@pytest.mark.parametrize("layers, starts", [(4, [0, 1, 2, 3]), (8, list(range(8))), (24, [0, 3, 6, 9, 12, 15, 18, 21])])
def test_the_layers_with_noise(layers, starts):
    assert default_starts(layers) == starts


def test_layers_that_the_model_lacks_are_refused():
    assert check_starts([3, 0, 3], 3) == [0, 3]
    for starts in ([4], [-1, 2]):
        with pytest.raises(InputError, match=r"--layers are from 0 \(embeddings\) to 3"):
            check_starts(starts, 3)


def test_the_mean_of_runs_and_the_ratio_of_the_last_layer():
    first = Curves(np.array([[1.0, 2.0], [np.nan, 3.0]]), np.array([[0.1, 0.2], [np.nan, 0.4]]))
    second = Curves(np.array([[3.0, 5.0], [np.nan, 4.0]]), np.array([[0.3, 0.4], [np.nan, 0.8]]))
    mean = mean_of([first, second])
    np.testing.assert_allclose(mean.norms, [[2, 3.5], [np.nan, 3.5]])
    assert last_ratio(mean) == pytest.approx((0.3 + 0.6) / 2)


@pytest.mark.parametrize("change", [{"task": "mrpc"}, {"max_length": 30}, {"dev_size": 16}])
def test_runs_with_other_dev_sets_are_refused(runs, change):
    other = FinishedRun(runs[1].folder)
    other.settings = replace(other.settings, **change)
    check_same_data(runs, "dev")
    with pytest.raises(InputError, match="has another dev set than"):
        check_same_data([runs[0], other], "dev")


def test_the_script_writes_table_and_pictures(runs, tmp_path, capsys):
    argv = [*(str(run.folder) for run in runs), "--draws", "1", "--layers", "3", "4", "--device", "cpu"]
    assert main([*argv, "--out", str(tmp_path)]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["attenuation.png", "attenuation.svg", "attenuation.tsv"]
    assert "fewer than three RUNs, so there is no picture of dev score" in capsys.readouterr().out
    lines = [line.split("\t") for line in (tmp_path / "attenuation.tsv").read_text().splitlines()]
    assert lines[0] == ["line", "run", "score", "noise_at", "layer", "norm", "ratio"]
    places = [("3", "3"), ("3", "4"), ("4", "4")]
    models = [("pretrained", ""), ("rte", "rte-seed0"), ("rte", "rte-seed1")]
    assert [(*model, *place) for model in models for place in places] == [(*row[:2], *row[3:5]) for row in lines[1:]]
    assert all(float(row[6]) == pytest.approx(0.05, rel=1e-4) for row in lines[1:] if row[3] == row[4])
    assert main([str(runs[0].folder), "--layers", "5", "--out", str(tmp_path)]) == 2
    assert "--layers are from 0 (embeddings) to 4" in capsys.readouterr().err

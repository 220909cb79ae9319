"""FT+Noise: where the noise is, and when."""

import pytest
import torch
from support.factories import make_model
from support.method_inputs import clean_pass

from minbert.bert import expand_attention_mask
from minbert.errors import InputError
from regularizers import build
from regularizers.noise import Noise


@pytest.mark.parametrize("noise", ["absolute", "relative"])
@pytest.mark.parametrize("layer", [1, 3])
def test_the_input_of_one_layer_is_noisy_in_training_and_no_input_in_evaluation(layer, noise):
    model, batch, clean = clean_pass(0.0)
    Noise(layer=layer, noise=noise, **({"sigma": 0.3} if noise == "absolute" else {"relative": 0.2})).attach(model)
    torch.manual_seed(4)
    out = model(batch)
    torch.manual_seed(4)
    x, z = clean.hidden[layer - 1], torch.randn(5, 7, 12, dtype=torch.float64)
    scale = 0.3 if noise == "absolute" else 0.2 * x.norm(dim=-1, keepdim=True) / z.norm(dim=-1, keepdim=True)
    h = x + scale * z * batch.attention_mask[..., None]
    plain, _, _ = clean_pass(0.0)
    for number in range(layer - 1, 3):
        h = plain.bert.layers[number](h, expand_attention_mask(batch.attention_mask))
    assert torch.allclose(out.hidden[-1], h, atol=1e-12)
    assert torch.equal(out.hidden[layer - 1], clean.hidden[layer - 1])  # the layers below see no noise
    model.eval(), plain.eval()
    assert torch.equal(model(batch).logits, plain(batch).logits)


@pytest.mark.parametrize("settings", [{"noise": "absolute", "sigma": 0.0}, {"noise": "relative", "relative": 0.0}])
def test_noise_of_size_zero_inserts_nothing(settings):
    model = make_model()
    names = [name for name, _ in model.named_modules()]
    Noise(**settings).attach(model)
    assert [name for name, _ in model.named_modules()] == names


def test_a_size_that_the_noise_does_not_read_is_refused():
    with pytest.raises(InputError, match="--set noise: sigma is the size of absolute noise: set noise=absolute, too"):
        build("noise", ["noise.sigma=0.1"])
    with pytest.raises(InputError, match="--set noise: relative is the size of relative noise: set noise=relative"):
        build("noise", ["noise.noise=absolute", "noise.relative=0.1"])


def test_a_size_that_is_no_choice_is_refused():
    with pytest.raises(InputError, match="--set noise: noise must be one of absolute, relative, not loud"):
        build("noise", ["noise.noise=loud"])


@pytest.mark.parametrize("layer", [0, 4])
def test_a_layer_that_the_model_does_not_have_is_refused(layer):
    with pytest.raises(InputError, match=f"--option noise: layer must be from 1 to 3, the model's layers, not {layer}"):
        build("noise", [f"noise.layer={layer}"]).attach(make_model())

"""FT+Noise: where the noise is, and when."""

import pytest
import torch
from support.factories import make_model
from support.method_inputs import clean_pass

from minbert.bert import expand_attention_mask
from minbert.errors import InputError
from regularizers import build
from regularizers.noise import Noise


@pytest.mark.parametrize("layer", [1, 3])
def test_the_input_of_one_layer_is_noisy_in_training_and_no_input_in_evaluation(layer):
    model, batch, clean = clean_pass(0.0)
    Noise(layer=layer, sigma=0.3).attach(model)
    torch.manual_seed(4)
    out = model(batch)
    torch.manual_seed(4)
    h = clean.hidden[layer - 1] + 0.3 * torch.randn(5, 7, 12, dtype=torch.float64) * batch.attention_mask[..., None]
    plain, _, _ = clean_pass(0.0)
    for number in range(layer - 1, 3):
        h = plain.bert.layers[number](h, expand_attention_mask(batch.attention_mask))
    assert torch.allclose(out.hidden[-1], h, atol=1e-12)
    assert torch.equal(out.hidden[layer - 1], clean.hidden[layer - 1])  # the layers below see no noise
    model.eval(), plain.eval()
    assert torch.equal(model(batch).logits, plain(batch).logits)


@pytest.mark.parametrize("layer", [0, 4])
def test_a_layer_that_the_model_does_not_have_is_refused(layer):
    with pytest.raises(InputError, match=f"--set noise: layer must be from 1 to 3, the model's layers, not {layer}"):
        build("noise", [f"noise.layer={layer}"]).attach(make_model())

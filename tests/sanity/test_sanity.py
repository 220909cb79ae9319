"""The sanity check apart from its known mistakes: right code passes, and an unknown mistake is located."""

import pytest
import torch
from support.factories import make_model
from support.slow_adam import slow_adam
from torch import nn

from minbert import bert, sanity, weights
from minbert.attention import SelfAttention
from minbert.bert import BertModel, expand_attention_mask
from minbert.embeddings import Embeddings
from minbert.errors import InputError
from minbert.layers import Layer
from minbert.optimizer import AdamW
from minbert.sanity import plain
from minbert.sanity.__main__ import main
from minbert.sanity.verdict import Step, first_divergence


def check(model=None, **options):
    return sanity.check_model(model or sanity.tiny(), sanity.tiny_reference(), **options)


def replaced(path: str, method: str, function) -> nn.Module:
    """The tiny BERT where a method of one submodule is another function."""
    model = sanity.tiny()
    setattr(model.get_submodule(path), method, function)
    return model


def test_the_plain_computation_equals_transformers():
    r = sanity.tiny_reference()
    computed = plain.activations(r)
    assert set(computed) == set(r.expected) and len(computed) == 2 + 4 * r.config.num_hidden_layers
    for name, expected in r.expected.items():
        assert expected.dtype == torch.float64 and (computed[name] - expected).abs().max() < 1e-10
    hidden = [r.expected[name] for name in ("embeddings", "encoder.layer.0.output", "encoder.layer.1.output")]
    assert (plain.hidden_states(r) - torch.stack([*hidden, hidden[-1]])).abs().max() < 1e-10


@pytest.mark.parametrize("decay, correct", [(0.0, True), (0.0, False), (0.3, True)])
def test_the_plain_adam_equals_a_slow_loop_and_skips_a_step_without_a_gradient(decay, correct):
    start, gradients = torch.tensor([0.3, -2.0, 1.0]), list(torch.tensor([[1.0, -0.5, 0.1], [0.2, 3.0, -1.0]]))
    computed = plain.adam(start, [gradients[0], None, gradients[1]], 0.1, (0.8, 0.95), 0.05, decay, correct)
    assert torch.equal(computed[0], computed[1])
    for row, steps in ((0, 1), (2, 2)):
        for i, theta in enumerate(start.tolist()):
            slow = slow_adam(theta, [g[i].item() for g in gradients[:steps]], 0.1, 0.8, 0.95, 0.05, decay, correct)
            assert abs(computed[row, i].item() - slow) < 1e-12


def test_without_bias_correction_the_place_of_eps_makes_no_difference():
    """Where eps is added after the correction of v, it is multiplied with the root of the correction: then with 1."""
    start, gradients = torch.tensor([0.3, -2.0, 1.0]), list(torch.tensor([[1.0, -0.5, 0.1], [0.2, 3.0, -1.0]]))
    misplaced = {"denominator": lambda v, eps, root: v.sqrt() + eps * root}
    for correct in (True, False):
        run = (start, gradients, 0.1, (0.8, 0.95), 0.05, 0.0, correct)
        assert torch.equal(plain.adam(*run), plain.adam(*run, **misplaced)) == (not correct)


def test_our_classes_pass_and_every_step_is_listed(capsys):
    assert main([]) == 0
    *lines, last = capsys.readouterr().out.splitlines()
    assert last == "All steps are right." and len(lines) == 2 + 2 * 4 + 3 + 4
    assert all(line.startswith("ok ") and "largest difference" in line for line in lines)


@pytest.mark.parametrize(
    "changes", [{}, {"max_position_embeddings": 1}, {"type_vocab_size": 1, "num_hidden_layers": 1}]
)
def test_the_weights_of_a_folder_pass(changes, tmp_path, capsys):
    weights.save_model(make_model(**changes), tmp_path / "own")
    assert main(["--model", str(tmp_path / "own")]) == 0
    assert "All steps are right." in capsys.readouterr().out


@pytest.mark.parametrize("broken", ["empty", "missing", "cut short"])
def test_a_broken_folder_is_one_line_and_status_2(broken, tmp_path, capsys):
    folder = tmp_path / broken
    if broken != "missing":
        folder.mkdir()
    if broken == "cut short":
        weights.save_model(make_model(), folder)
        (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:999])
    assert main(["--model", str(folder)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("minbert.sanity: ") and str(folder) in error and error.count("\n") == 1


def test_a_mistake_gives_status_1_and_the_optimizer_is_checked_all_the_same(monkeypatch, capsys):
    monkeypatch.setattr(BertModel, "pool", lambda self, h: self.pooler(h[:, 0]))
    assert main([]) == 1
    out = capsys.readouterr().out
    assert "First divergence: pooler. Likely cause: tanh is missing." in out
    assert "whole model" not in out and "ok       optimizer saved and restored" in out


@pytest.mark.parametrize("owner, method, step", [
    (Embeddings, "forward", "embedding"), (SelfAttention, "explicit", "layer 0 attention, explicit"),
    (BertModel, "forward", "whole model, hidden states"), (AdamW, "step", "optimizer with bias correction"),
])  # fmt: skip
def test_an_exception_is_named_with_its_step_and_line(owner, method, step, monkeypatch, capsys):
    def to_do(self, *args, **kwargs):
        raise NotImplementedError("to do\nand more")

    monkeypatch.setattr(owner, method, to_do)
    assert main([]) == 1
    captured = capsys.readouterr()
    (line,) = [line for line in captured.out.splitlines() if line.startswith("differs")]
    assert line.split("  ")[1] == step and "NotImplementedError: to do (test_sanity.py, line " in line
    assert "Traceback" not in captured.out + captured.err and f"First divergence: {step}." in captured.out


def test_a_model_that_cannot_be_built_is_named(monkeypatch, capsys):
    monkeypatch.setattr(Embeddings, "__init__", lambda self, config: print(config.nonsense))
    assert main([]) == 1
    assert "BertModel cannot be built: AttributeError: 'BertConfig' object has no attribute" in capsys.readouterr().out


def test_wrongly_loaded_weights_are_found():
    model = sanity.tiny()
    attention = model.layers[1].attention
    attention.query, attention.value = attention.value, attention.query
    assert check(model).step == "layer 1 attention"


def test_a_missing_layer_is_an_error_of_its_step(capsys):
    model = sanity.tiny()
    del model.layers[1]
    assert check(model).step == "layer 1 attention" and "IndexError" in capsys.readouterr().out


def test_an_unknown_mistake_is_located():
    model, place = sanity.tiny(), torch.zeros(4, 7, 15)
    place[2, 1, 4] = 0.5
    right = model.layers[0].feed_forward.forward
    model.layers[0].feed_forward.forward = lambda h, task=None: right(h) + place
    divergence = check(model)
    assert (divergence.step, divergence.cause) == ("layer 0 feed-forward", None)
    assert "No known mistake gives these numbers. 1 of 420 differ, most at index [2, 1, 4]: " in divergence.verdict
    assert "Hint: it is W₂ GELU(W₁h + b₁) + b₂" in divergence.verdict


@pytest.mark.parametrize("give, text", [
    (lambda h: (h, h), "gives tuple, not a tensor"),
    (lambda h: h[:, :, :-1], "No known mistake gives the shape [4, 7, 14], expected [4, 7, 15]"),
    (lambda h: nn.Linear(3, 3)(h), "3x3) (test_sanity.py, line "),  # raised deep inside of torch
    (lambda h: h * float("nan"), "differ, most at index [0, 0, 0]: nan"),
])  # fmt: skip
def test_an_output_that_cannot_be_compared_is_described(give, text, capsys):
    divergence = check(replaced("layers.0.feed_forward", "forward", lambda h, task=None: give(h)))
    assert divergence.step == "layer 0 feed-forward" and divergence.cause is None and text in capsys.readouterr().out


def test_the_numbers_at_padding_do_not_matter(monkeypatch):
    right = Layer.forward
    real = expand_attention_mask(sanity.tiny_reference().mask)[:, 0, 0, :, None]
    monkeypatch.setattr(Layer, "forward", lambda self, h, mask, task=None: right(self, h, mask).where(real, 7.0))
    assert check() is None


def test_large_numbers_at_padding_do_not_widen_the_tolerance():
    expected, real = torch.tensor([1.0, 1e9]), torch.tensor([True, False])
    step = Step("a", expected, lambda: expected + 0.001, lambda: expected * 2, [("doubled", {})], "a hint", real)
    assert first_divergence([step]).cause is None


def test_a_step_whose_numbers_are_all_0_can_be_right():
    step = Step("a", torch.zeros(3), lambda: torch.zeros(3), lambda: torch.ones(3), [("one more", {})], "a hint")
    assert first_divergence([step]) is None


def test_a_model_that_writes_into_its_input_does_not_change_the_reference():
    reference, model = sanity.tiny_reference(), replaced("layers.0.feed_forward", "forward", lambda h: h.zero_())
    assert sanity.check_model(model.double(), reference).step == "layer 0 feed-forward"
    for name, tensor in sanity.tiny_reference().expected.items():
        assert torch.equal(reference.expected[name], tensor)


def test_train_mode_is_named():
    divergence = check(sanity.tiny().train())
    assert divergence.step == "embedding" and divergence.cause.startswith("the model is in train mode")


def test_dropout_in_eval_mode_is_named():
    divergence = check(replaced("layers.0.feed_forward", "forward", lambda h: nn.functional.dropout(h)))
    assert divergence.step == "layer 0 feed-forward" and divergence.cause.startswith("dropout is active in eval mode")


def test_a_class_of_ones_own_may_take_an_additive_mask_and_have_no_explicit_path(monkeypatch):
    class Attention(SelfAttention):
        explicit = property()  # hasattr is False

        def forward(self, h, mask, task=None):
            q, k, v = self.split(self.query(h)), self.split(self.key(h)), self.split(self.value(h))
            return self.output(self.merge((q @ k.mT / q.shape[-1] ** 0.5 + mask).softmax(-1) @ v))

    def additive(mask):
        return (1.0 - mask[:, None, None, :]) * -1e4

    model, lines = sanity.tiny(), []
    for layer in model.layers:
        layer.attention.__class__ = Attention
    monkeypatch.setattr(bert, "expand_attention_mask", additive)
    assert check(model, write=lines.append) is None and sanity.check_model(model, write=lines.append) is None
    assert len(lines) == 2 * (2 + 2 * 3 + 3)
    divergence = check(model, expand_mask=lambda mask: additive(1 - mask))
    assert divergence.step == "attention mask" and "inverted" in divergence.cause


def test_a_model_with_other_tensors_is_an_input_error():
    model = sanity.tiny()
    model.more = nn.Linear(1, 1)
    with pytest.raises(InputError, match=r"more\.weight"):
        sanity.check_model(model)


def test_a_step_without_no_grad_is_named():
    class Unguarded(AdamW):
        def step(self):
            for group in self.param_groups:
                for p in group["params"]:
                    p -= p.grad

    lines = []
    assert sanity.check_optimizer(Unguarded, write=lines.append).cause is None
    assert "RuntimeError: a leaf Variable that requires grad is being used in an in-place operation" in lines[0]

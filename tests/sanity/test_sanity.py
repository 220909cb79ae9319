"""The sanity check around its mistakes (test_sanity_mistakes.py): what is right passes, what is unknown is located."""

import pytest
import torch
from support.factories import make_model
from torch import nn

from minbert import bert, sanity, weights
from minbert.attention import SelfAttention
from minbert.bert import BertModel, expand_attention_mask
from minbert.embeddings import Embeddings
from minbert.errors import InputError
from minbert.layers import FeedForward, Layer
from minbert.optimizer import AdamW
from minbert.sanity import plain
from minbert.sanity.__main__ import main
from minbert.sanity.references import trajectories


def check(model=None, **more):
    return sanity.check_model(model or sanity.tiny(), sanity.tiny_reference(), **more)


def test_the_plain_computation_equals_transformers():
    r = sanity.tiny_reference()
    computed = plain.activations(r.weights, r.config, r.ids, r.mask, r.segments)
    assert set(computed) == set(r.expected) and len(computed) == 2 + 4 * r.config.num_hidden_layers
    for name, expected in r.expected.items():
        assert expected.dtype == torch.float64 and (computed[name] - expected).abs().max() < 1e-10


def test_the_plain_adam_equals_the_slow_loop():
    for run in trajectories().values():
        parts = [plain.adam(*one[:2], **one[2]) for one in zip(run.starts, run.gradients, run.groups)]
        assert (torch.cat(parts, dim=1) - run.expected).abs().max() < 1e-12


def test_ours_passes_and_every_step_is_listed(capsys):
    assert main([]) == 0
    *lines, last = capsys.readouterr().out.splitlines()
    assert last == "All steps are right." and len(lines) == 2 + 2 * 6 + 4 + 4
    assert all(line.startswith("ok ") and "largest difference" in line for line in lines)


@pytest.mark.parametrize(
    "changes", [{}, {"max_position_embeddings": 1}, {"type_vocab_size": 1, "num_hidden_layers": 1}]
)
def test_passes_on_the_weights_of_a_folder(changes, tmp_path, capsys):
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
    assert error.startswith("sanity: ") and str(folder) in error and error.count("\n") == 1


def test_an_unknown_flag_is_one_line_and_status_2(capsys):
    assert main(["--modle", "x"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_mistake_gives_status_1_and_the_optimizer_is_checked_all_the_same(monkeypatch, capsys):
    monkeypatch.setattr(BertModel, "pool", lambda self, h: self.pooler(h[:, 0]))
    assert main([]) == 1
    out = capsys.readouterr().out
    assert "First divergence: pooler. Likely cause: tanh is missing." in out
    assert "whole model" not in out and "ok       optimizer saved and restored" in out


def test_two_mistakes_in_one_step_are_both_named(monkeypatch):
    monkeypatch.setattr(BertModel, "pool", lambda self, h: self.pooler(h.mean(1)))
    found = check()
    assert found.cause.startswith("two mistakes: tanh is missing; and the mean of the tokens is pooled")


def test_an_unknown_mistake_is_located(monkeypatch):
    right = FeedForward.forward

    def wrong(self, h, task=None):
        return right(self, h, task) + 0.5 * nn.functional.one_hot(torch.tensor(4), h.shape[-1]) * (
            h[..., :1] == h[2, 1, 0]
        )

    monkeypatch.setattr(FeedForward, "forward", wrong)
    found = check()
    assert (found.step, found.cause) == ("layer 0 feed-forward", None)
    assert "No known mistake gives these numbers. 1 of 420 differ, most at row 2, token 1, dimension 4" in str(found)
    assert "Hint: it is W₂ GELU(W₁h + b₁) + b₂" in str(found)


def test_what_stands_at_padding_does_not_matter(monkeypatch):
    right = Layer.forward
    real = expand_attention_mask(sanity.tiny_reference().mask)[:, 0, 0, :, None]
    monkeypatch.setattr(Layer, "forward", lambda self, h, mask, task=None: right(self, h, mask).where(real, 7.0))
    assert check() is None


@pytest.mark.parametrize("owner, method, step", [
    (Embeddings, "forward", "embedding"), (SelfAttention, "forward", "layer 0 attention"),
    (SelfAttention, "explicit", "layer 0 attention, explicit"), (FeedForward, "forward", "layer 0 feed-forward"),
    (Layer, "forward", "layer 0 input of attention"), (BertModel, "pool", "pooler"),
    (BertModel, "forward", "whole model, hidden states"), (AdamW, "step", "optimizer with bias correction"),
])  # fmt: skip
def test_an_exception_is_named_with_its_step(owner, method, step, monkeypatch, capsys):
    def to_do(self, *args, **kwargs):
        raise NotImplementedError("to do\nand more")

    monkeypatch.setattr(owner, method, to_do)
    assert main([]) == 1
    captured = capsys.readouterr()
    (line,) = [line for line in captured.out.splitlines() if line.startswith("differs")]
    assert line.split("  ")[1] == step and "NotImplementedError: to do (test_sanity.py, line " in line
    assert "Traceback" not in captured.out + captured.err and f"First divergence: {step}." in captured.out


def test_a_layer_that_does_not_hand_on_the_mask_is_located(monkeypatch):
    right = Layer.forward
    monkeypatch.setattr(Layer, "forward", lambda self, h, mask, task=None: right(self, h, torch.ones_like(mask)))
    found = check()
    assert (found.step, found.cause) == ("layer 0 residual + LayerNorm 1", None) and "hands on the mask" in str(found)


def test_wrongly_loaded_weights_are_found(monkeypatch, capsys):
    right = weights.fill

    def wrong(model, *args):
        right(model, *args)
        query, key = model.layers[1].attention.query, model.layers[1].attention.key
        query.weight, key.weight = key.weight, query.weight

    monkeypatch.setattr(weights, "fill", wrong)
    assert main([]) == 1
    assert "First divergence: layer 1 attention." in capsys.readouterr().out


def test_a_layer_that_leaves_out_a_half_is_named(monkeypatch):
    monkeypatch.setattr(Layer, "forward", lambda self, h, mask, task=None: self.attention_norm(self.attention(h, mask)))
    lines = []
    assert check(say=lines.append).step == "layer 0 input of attention"
    assert "LookupError: the layer does not call self.feed_forward" in lines[-2]


def test_a_model_that_writes_into_its_input_spoils_no_reference(monkeypatch):
    monkeypatch.setattr(FeedForward, "forward", lambda self, h, task=None: h.zero_())
    reference = sanity.tiny_reference()
    assert sanity.check_model(sanity.tiny().double(), reference).step == "layer 0 feed-forward"
    for name, tensor in sanity.tiny_reference().expected.items():
        assert torch.equal(reference.expected[name], tensor)


def test_a_model_that_cannot_be_built_is_named(monkeypatch, capsys):
    monkeypatch.setattr(Embeddings, "__init__", lambda self, config: print(config.nonsense))
    assert main([]) == 1
    assert "BertModel cannot be built: AttributeError: 'BertConfig' object has no attribute" in capsys.readouterr().out


@pytest.mark.parametrize("give, text", [
    (lambda h: (h, h), "gives tuple, not a tensor"),
    (lambda h: h[:, :, :-1], "No known mistake gives the shape [4, 7, 14], where [4, 7, 15] was expected"),
    (lambda h: nn.Linear(3, 3)(h), "3x3) (test_sanity.py, line "),  # raised deep inside of torch
    (lambda h: h * float("nan"), "differ, most at row 0, token 0, dimension 0 (counted from 0): nan"),
])  # fmt: skip
def test_what_is_no_such_tensor(give, text, monkeypatch, capsys):
    monkeypatch.setattr(FeedForward, "forward", lambda self, h, task=None: give(h))
    found = check()
    assert found.step == "layer 0 feed-forward" and found.cause is None and text in capsys.readouterr().out


def test_train_mode_is_named():
    found = check(sanity.tiny().train())
    assert found.step == "embedding" and found.cause.startswith("the model is in train mode")


def test_dropout_in_eval_mode_is_named(monkeypatch):
    right = SelfAttention.forward
    monkeypatch.setattr(SelfAttention, "forward", lambda self, h, m, t=None: nn.functional.dropout(right(self, h, m)))
    found = check()
    assert found.step == "layer 0 attention" and found.cause.startswith("dropout is active in eval mode")


def test_a_class_of_ones_own_with_an_additive_mask(monkeypatch):
    class Attention(SelfAttention):
        explicit = property()  # there is none: the step is left out

        def forward(self, h, mask, task=None):
            q, k, v = self.split(self.query(h)), self.split(self.key(h)), self.split(self.value(h))
            return self.output(self.merge((q @ k.mT / q.shape[-1] ** 0.5 + mask).softmax(-1) @ v))

    model, lines = sanity.tiny(), []
    for layer in model.layers:
        layer.attention.__class__ = Attention
    additive = lambda mask: (1.0 - mask[:, None, None, :]) * -1e4  # noqa: E731
    monkeypatch.setattr(bert, "attendable", additive)
    assert check(model, say=lines.append) is None and sanity.check_model(model) is None
    assert len(lines) == 2 + 2 * 5 + 4
    assert not any(module._forward_pre_hooks for module in model.modules())
    found = check(model, attendable=lambda mask: additive(1 - mask))
    assert found.step == "attention mask" and "inverted" in found.cause


def test_a_model_with_other_tensors_is_an_input_error():
    model = sanity.tiny()
    model.more = nn.Linear(1, 1)
    with pytest.raises(InputError, match=r"more\.weight"):
        sanity.check_model(model)


def test_a_step_that_changes_parameters_must_say_no_grad():
    class Unguarded(AdamW):
        def step(self):
            for group in self.param_groups:
                for p in group["params"]:
                    p -= p.grad

    lines = []
    assert sanity.check_optimizer(Unguarded, say=lines.append).cause is None
    assert "RuntimeError: a leaf Variable that requires grad is being used in an in-place operation" in lines[0]


def test_an_optimizer_may_write_into_the_gradients():
    class Zeroing(AdamW):
        def step(self):
            super().step()
            self.zero_grad(set_to_none=False)

    assert sanity.check_optimizer(Zeroing) is None

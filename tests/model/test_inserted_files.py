"""What files hold of inserted modules, their default learning rate, and the methods that cannot be joined with them."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.factories import attached, inserted, make_batch, make_model, make_training_state

import train
from minbert import weights
from minbert.bert import BertModel
from minbert.classifier import SentenceModel
from minbert.data.tasks import TASKS
from minbert.errors import InputError
from minbert.published import is_inserted, published_name
from minbert.training.checkpoint import Checkpoints
from minbert.training.loop import Objective
from regularizers import OPTIONS, build
from regularizers.base import WEIGHTS, Method


@pytest.mark.parametrize("option", [*OPTIONS, "adapter+pal+lhuc", "adapter+smart"])
def test_every_file_calls_the_parameters_of_bert_what_a_plain_model_calls_them(option, tmp_path, caplog):
    model, plain = make_model(), make_model()
    method = build(option)
    method.attach(model)
    weights.save_model(model, tmp_path / "model")
    weights.save_model(plain, tmp_path / "plain")
    keys, plain_keys = (set(load_file(tmp_path / n / "model.safetensors")) for n in ("model", "plain"))
    more = keys - plain_keys
    assert plain_keys <= keys and all(n.startswith("inserted.") for n in more) and len(more) == len(inserted(model))
    Checkpoints(tmp_path / "checkpoint").save(make_training_state(Objective(model, method)))
    (kept,) = (set(load_file(file)) for file in (tmp_path / "checkpoint").iterdir())
    assert {f"objective.model.{n}" for n in plain.state_dict() if n.startswith("bert.")} <= kept
    weights.save_trained(model, tmp_path / "trained.safetensors")
    trained = set(load_file(tmp_path / "trained.safetensors"))
    assert not any("base" in n.split(".") for n in keys | kept | trained)
    caplog.clear()
    bert = BertModel.from_pretrained(tmp_path / "model")
    assert all(torch.equal(p, plain.bert.get_parameter(n)) for n, p in bert.named_parameters())
    left_out = f"{tmp_path / 'model'} also holds {len(more)} tensors of modules inserted into BERT: they are left out"
    assert [record.message for record in caplog.records] == ([left_out] if more else [])


@pytest.fixture
def adapter_run(arguments, tmp_path, capsys):
    assert train.main([*arguments, "--option", "adapter+lhuc", "--max-steps", "3"]) == 0
    return tmp_path / "run", capsys.readouterr().out


def test_the_parameters_that_a_run_trained_are_a_small_file_that_rebuilds_its_model(adapter_run, model_folder):
    """On the base model, with the same option attached, bit for bit."""
    folder, said = adapter_run
    sizes = json.loads((folder / "metrics.json").read_text())
    count = sizes["trainable_parameters"]
    assert f"trains {count:,} of {sizes['parameters']:,} parameters; {sizes['added_parameters']:,} added\n" in said
    file = folder / "trained.safetensors"
    assert 4 * count < file.stat().st_size < 4 * count + 10_000
    model = SentenceModel(BertModel.from_pretrained(model_folder), [TASKS["rte"]])
    build("adapter+lhuc").attach(model)
    assert set(load_file(file)) == weights.trained_parameters(model).keys()
    weights.load_trained(model, file)
    saved = load_file(folder / "model" / "model.safetensors")
    for name, p in model.bert.named_parameters():
        published = published_name(name)
        assert torch.equal(p, saved[published if is_inserted(name) else f"bert.{published}"])
    assert torch.equal(model.heads["rte"].weight, saved["classifier.weight"])


def test_the_rebuilt_model_predicts_what_the_trained_one_did(tmp_path):
    """The same in one process, where the trained model itself can be asked."""
    model, batch = attached("adapter"), make_batch()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    batch.task.loss(model(batch).logits, batch.labels).backward()
    optimizer.step()
    weights.save_trained(model, tmp_path / "trained.safetensors")
    rebuilt = make_model()
    torch.manual_seed(99)  # other first weights for the adapters
    build("adapter").attach(rebuilt)
    assert not torch.allclose(rebuilt.eval()(batch).logits, model.eval()(batch).logits, atol=1e-3)
    weights.load_trained(rebuilt, tmp_path / "trained.safetensors")
    assert torch.allclose(rebuilt(batch).logits, model(batch).logits, atol=1e-6)


def test_trained_parameters_that_do_not_fit_are_refused_with_everything_that_is_wrong(tmp_path):
    file, model = tmp_path / "trained.safetensors", attached("adapter")
    weights.save_trained(model, file)
    tensors = load_file(file)
    tensors["bert.pooler.weight"] = tensors.pop("bert.embeddings.norm.bias")
    tensors["heads.rte.weight"] = torch.zeros(3, 12)
    save_file(tensors, file)
    before = [p.clone() for p in model.parameters()]
    with pytest.raises(InputError) as error:
        weights.load_trained(model, file)
    for problem in ("missing bert.embeddings.norm.bias [12]", "unexpected bert.pooler.weight",
                    "heads.rte.weight is [3, 12], the model's is [2, 12]"):  # fmt: skip
        assert problem in str(error.value)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters()))
    for content in (b"", b"no safetensors"):
        file.write_bytes(content)
        with pytest.raises(InputError, match="cannot be read as safetensors"):
            weights.load_trained(model, file)


def test_a_run_that_trains_everything_writes_no_trained_safetensors(arguments, tmp_path):
    assert train.main([*arguments, "--option", "lhuc", "--max-steps", "1"]) == 0
    assert not (tmp_path / "run" / "trained.safetensors").exists()


def test_where_bert_is_frozen_the_default_learning_rate_is_higher():
    assert build("adapter").lr == build("lhuc+adapter").lr == 3e-4
    for name in ("lhuc", "pal", "low-rank"):
        assert build(name).lr is None and build(name, [f"{name}.freeze=true"]).lr == 3e-4


def test_a_method_that_needs_the_pretrained_weights_to_change_is_refused_where_they_are_frozen(monkeypatch):
    class Anchor(Method):
        needs = (WEIGHTS,)

    monkeypatch.setitem(OPTIONS, "anchor", Anchor)
    for option in ("frozen+anchor", "anchor+frozen", "adapter+anchor"):
        with pytest.raises(InputError, match="anchor needs the pretrained weights to change, and "):
            build(option)
    for name in ("lhuc", "pal", "low-rank"):
        build(f"{name}+anchor")
        with pytest.raises(InputError, match=f"and {name} freezes them"):
            build(f"{name}+anchor", [f"{name}.freeze=true"])


@pytest.mark.parametrize("option", ["adapter", "lhuc", "pal", "low-rank"])
def test_nothing_is_inserted_where_the_head_alone_trains(option):
    for both in (f"frozen+{option}", f"{option}+frozen"):
        with pytest.raises(InputError, match=f"{option} needs the hidden states to change, and frozen freezes them"):
            build(both)


@pytest.mark.parametrize("option", OPTIONS)
def test_a_saved_model_loads_with_its_inserted_modules(option, tmp_path):
    model, twin = attached(option), make_model(seed=1)
    build(option).attach(twin)
    for p in model.parameters():
        p.data += 0.1 * torch.randn_like(p)
    weights.save_model(model, tmp_path)
    weights.load_model(twin, tmp_path)
    batch = make_batch()
    assert torch.allclose(model.eval()(batch).logits, twin.eval()(batch).logits, atol=1e-6)
    head = load_file(tmp_path / "model.safetensors")["classifier.weight"]
    assert torch.equal(head, model.heads["rte"].weight)  # the weight that the head computes with


def test_a_saved_model_of_other_methods_is_refused(tmp_path):
    weights.save_model(make_model(), tmp_path)
    with pytest.raises(InputError, match=r"inserted\.\S+ is missing"):
        weights.load_model(attached("adapter"), tmp_path)


def without_pooler(seed: int, option: str) -> SentenceModel:
    """A model whose checkpoint had no pooler, with a method attached."""
    bert = make_model().bert
    tensors = {published_name(n): t for n, t in bert.state_dict().items() if not n.startswith("pooler.")}
    model = make_model(seed=seed)
    weights.load_into(model.bert, tensors, Path("checkpoint"))
    build(option).attach(model)
    return model


@pytest.mark.parametrize("option", OPTIONS)
def test_a_fresh_pooler_trains_and_is_kept_with_what_trains(option, tmp_path):
    """No other file has it."""
    one, other = (without_pooler(seed, option) for seed in (1, 2))
    assert all(p.requires_grad for p in one.bert.pooler.parameters())
    assert not torch.equal(one.bert.pooler.weight, other.bert.pooler.weight)
    weights.save_trained(one, tmp_path / "trained.safetensors")
    weights.load_trained(other, tmp_path / "trained.safetensors")
    assert all(torch.equal(p, other.get_parameter(name)) for name, p in one.named_parameters())

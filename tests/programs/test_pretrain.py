"""minbert.predict --mask and minbert.pretrain, with the sample's model."""

import itertools
import shutil
import signal

import pytest
import torch
from safetensors.torch import load_file
from support.ranks import run_two_ranks

import sample
from minbert import predict, pretrain
from minbert.errors import Interrupted
from minbert.mlm import MaskedLanguageModel
from minbert.tokenizer import Tokenizer, load_tokenizer
from minbert.training.lock import FolderLock
from sample.corpus import pairs


@pytest.fixture
def text(tmp_path):
    lines = [pair.first for pair in itertools.islice(pairs("held-out"), 60)]
    (tmp_path / "text.txt").write_text("\n\n".join(lines) + "\n", encoding="utf-8")
    return tmp_path / "text.txt"


def arguments(text, out, *more) -> list[str]:
    flags = ["--model", str(sample.MODEL), "--text", str(text), "--out", str(out), "--device", "cpu"]
    return [*flags, "--precision", "fp32", "--batch-size", "8", "--epochs", "2", "--lr", "1e-3", *more]


def test_the_words_for_a_mask_are_the_most_probable_ones():
    model, tokenizer = MaskedLanguageModel.from_pretrained(sample.MODEL), load_tokenizer(sample.MODEL)
    text = "yesterday , a [MASK] painter played the [MASK] drum ."
    masks = predict.fill_masks(model, tokenizer, text, number=3)
    assert [len(words) for words in masks] == [3, 3]
    # Independently: the encoder's states through the head, by hand.
    (encoding,) = tokenizer([text])
    h = model.bert(torch.tensor([encoding.input_ids])).last_hidden_state[0]
    h = model.norm(torch.nn.functional.gelu(model.transform(h)))
    probabilities = (h @ model.bert.embeddings.token.weight.T + model.bias).softmax(-1)
    places = [i for i, number in enumerate(encoding.input_ids) if number == tokenizer.mask_id]
    for place, words in zip(places, masks, strict=True):
        ids = [tokenizer.backend.token_to_id(word) for word, _ in words]
        assert [p for _, p in words] == pytest.approx(probabilities[place, ids].tolist(), rel=1e-4)
        assert sorted(probabilities[place].tolist())[-3:][::-1] == pytest.approx([p for _, p in words], rel=1e-4)


@pytest.mark.parametrize(
    "text, message", [("no mask", "has no [MASK]"), ("[MASK] " * 300, "more than 256 tokens")], ids=["none", "long"]
)
def test_a_text_that_cannot_be_filled_is_one_line(text, message, capsys):
    assert predict.main([str(sample.MODEL), "--mask", text]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") <= 2  # the model has no pooler, which is the other line


def test_training_on_a_text_lowers_its_loss_and_leaves_a_model_with_its_head(text, tmp_path, capsys):
    assert pretrain.main(arguments(text, tmp_path / "adapted", "--epochs", "4")) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "held-out" in line]
    losses = [float(line.split("loss ")[1].split(",")[0]) for line in lines]
    assert len(losses) == 5 and losses[-1] < losses[0]
    MaskedLanguageModel.from_pretrained(tmp_path / "adapted")
    assert load_tokenizer(tmp_path / "adapted")(["a painter"]) == load_tokenizer(sample.MODEL)(["a painter"])
    assert not (tmp_path / "adapted-checkpoint").exists()
    assert pretrain.main(arguments(text, tmp_path / "adapted")) == 2
    assert "holds other files: name a new folder" in capsys.readouterr().err


def test_two_processes_train_together(text, tmp_path):
    argv = arguments(text, tmp_path / "adapted")
    first, second = run_two_ranks("-m", "minbert.pretrain", *argv)
    losses = [float(line.split("loss ")[1].split(",")[0]) for line in first.splitlines() if "held-out" in line]
    assert len(losses) == 3 and losses[-1] < losses[0]
    assert f"saved in {tmp_path / 'adapted'}" in first and "saved" not in second
    MaskedLanguageModel.from_pretrained(tmp_path / "adapted")


def test_a_folder_with_a_model_in_several_files_is_not_overwritten(text, tmp_path, capsys):
    (tmp_path / "sharded").mkdir()
    (tmp_path / "sharded" / "model.safetensors.index.json").write_text("{}")
    assert pretrain.main(arguments(text, tmp_path / "sharded")) == 2
    assert "holds other files" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "sharded").iterdir()] == ["model.safetensors.index.json"]


def test_line_numbers_are_those_of_each_file(tmp_path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.txt").write_text("".join(f"{name} {i}\n\n" for i in range(15)))
    examples = pretrain.read_texts([tmp_path / "a.txt", tmp_path / "b.txt"])
    assert [row.line for row in examples.rows] == 2 * list(range(1, 30, 2))
    assert str(examples.path) == f"{tmp_path / 'a.txt'}, {tmp_path / 'b.txt'}"


def stop_in_the_second_epoch(patch: pytest.MonkeyPatch) -> None:
    """The text is scored before the training and after each epoch. The third time a signal comes, later ones pass."""
    score, calls = pretrain.score, []

    def stop(*args):
        calls.append(1)
        if len(calls) == 3:
            raise Interrupted(signal.SIGTERM)
        return score(*args)

    patch.setattr(pretrain, "score", stop)


def test_a_stopped_run_ends_with_the_weights_of_an_undisturbed_one(text, tmp_path, monkeypatch, capsys):
    assert pretrain.main(arguments(text, tmp_path / "whole")) == 0
    stop_in_the_second_epoch(monkeypatch)
    assert pretrain.main(arguments(text, tmp_path / "stopped")) == 143
    assert "the same command continues" in capsys.readouterr().err
    assert pretrain.main(arguments(text, tmp_path / "stopped")) == 0
    whole, resumed = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "stopped"))
    assert all(torch.equal(tensor, resumed[name]) for name, tensor in whole.items())


@pytest.mark.parametrize("kind", [MaskedLanguageModel, Tokenizer])
def test_a_full_disk_is_one_line_and_the_same_command_ends_the_run(kind, text, tmp_path, monkeypatch, capsys):
    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(kind, "save", fail)
        assert pretrain.main(arguments(text, tmp_path / "out")) == 2
    assert capsys.readouterr().err == "minbert.pretrain: [Errno 28] No space left on device\n"
    assert pretrain.main(arguments(text, tmp_path / "out")) == 0
    assert load_tokenizer(tmp_path / "out")(["a painter"]) == load_tokenizer(sample.MODEL)(["a painter"])


@pytest.mark.parametrize(
    "change, message",
    [
        (["--text", "nowhere.txt"], "nowhere.txt"),
        (["--max-length", "300"], "the model has 256 positions"),
        (["--lr", "-1"], "--lr must be at least 0"),
        (["--batch", "3"], "unrecognized arguments"),
        (["--device", "banana"], "invalid choice"),
        (["--out", "/"], "is not a folder"),
        (["--out", __file__], "is not a folder"),
    ],
)
def test_a_mistake_is_one_line(change, message, text, tmp_path, capsys):
    assert pretrain.main(arguments(text, tmp_path / "out", *change)) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_a_stopped_run_is_not_continued_with_other_settings(text, tmp_path, monkeypatch, capsys):
    def stop(*_, **__):
        raise Interrupted(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(pretrain, "fit", stop)
        assert pretrain.main(arguments(text, tmp_path / "out")) == 143
    text.write_text(text.read_text() + "one more line .\n")
    assert pretrain.main(arguments(text, tmp_path / "out", "--seed", "9")) == 2
    assert "a stopped run there has other settings (text, seed)" in capsys.readouterr().err
    assert not (tmp_path / "out" / "model.safetensors").exists()


def test_a_text_of_few_lines_is_refused(tmp_path, capsys):
    (tmp_path / "few.txt").write_text("one line\n\nanother\n")
    assert pretrain.main(arguments(tmp_path / "few.txt", tmp_path / "out")) == 2
    assert "2 lines of text are too few, 20 are needed" in capsys.readouterr().err


def test_lines_without_a_word_are_refused(tmp_path, capsys):
    """[SEP] is never masked, so there is nothing to score."""
    (tmp_path / "odd.txt").write_text("[SEP]\n" + "a bird slept .\n" * 19)
    assert pretrain.main(arguments(tmp_path / "odd.txt", tmp_path / "out")) == 2
    assert "the held-out lines have no token that can be masked" in capsys.readouterr().err


def test_a_new_run_does_not_go_on_from_the_checkpoint_of_a_deleted_one(text, tmp_path, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        stop_in_the_second_epoch(patch)
        assert pretrain.main(arguments(text, tmp_path / "out")) == 143
    assert list((tmp_path / "out-checkpoint").iterdir())
    shutil.rmtree(tmp_path / "out")
    for name in ("out", "fresh"):
        assert pretrain.main(arguments(text, tmp_path / name, "--lr", "3e-3")) == 0
    new, fresh = (load_file(tmp_path / name / "model.safetensors") for name in ("out", "fresh"))
    assert all(torch.equal(tensor, new[name]) for name, tensor in fresh.items())


def test_one_process_at_a_time_works_on_a_folder(text, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    lock = FolderLock(tmp_path / "out")
    assert pretrain.main(arguments(text, tmp_path / "out")) == 2
    assert "another process is at work on this run" in capsys.readouterr().err
    lock.release()


@pytest.mark.parametrize(
    "error, status, message",
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), 2, "out of memory: lower --batch-size"),
    ],
)
def test_it_ends_with_one_line(error, status, message, text, tmp_path, monkeypatch, capsys):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(pretrain, "fit", fail)
    assert pretrain.main(arguments(text, tmp_path / "out")) == status
    assert f"minbert.pretrain: {message}" in capsys.readouterr().err

"""minbert.load_run and minbert.predict give the answers that the run itself gave."""

import csv
import io
import json
import sys

import numpy as np
import pytest
import torch
from support.factories import make_model

import minbert
import multitask
import train
from minbert import predict, weights
from minbert.data.predictions import read_predictions
from minbert.data.readers import read_examples
from minbert.data.tasks import TASKS
from minbert.errors import InputError
from minbert.metrics import probabilities
from minbert.tokenizer import load_tokenizer
from minbert.training.settings import NEW_SETTINGS
from minbert.training.text_model import TextModel, load_run

RUN = "--batch-size 16 --max-length 32 --max-steps 8 --lr 1e-2 --device cpu --precision fp32".split()
PAIR = ("red red red", "red")


@pytest.fixture(scope="module")
def run(model_folder, data_folder, tmp_path_factory):
    """A run of train.py on the made-up RTE."""
    folder = tmp_path_factory.mktemp("predict") / "run"
    assert train.main([*RUN, "--model", str(model_folder), "--data", str(data_folder), "--out", str(folder)]) == 0
    return folder


@pytest.mark.parametrize("option", ["finetune", "adapter+smart", "lora", "lhuc", "pal", "r4f", "mixout", "noise"])
def test_the_answers_are_the_predictions_that_the_run_wrote(option, model_folder, data_folder, tmp_path):
    flags = ["--model", str(model_folder), "--data", str(data_folder), "--out", str(tmp_path / "run")]
    assert train.main([*RUN, *flags, "--option", option]) == 0
    rows = read_examples(TASKS["rte"], data_folder, "dev").rows
    answers = minbert.load_run(tmp_path / "run").predict([(row.text, row.pair) for row in rows])
    written = read_predictions(tmp_path / "run", "rte", "dev")
    assert [answer.prediction for answer in answers] == written
    assert all(max(a.probabilities, key=a.probabilities.get) == a.prediction for a in answers)


def test_each_task_of_several_has_its_answers(flags, course, tmp_path):
    assert multitask.main([*flags, "--max-steps", "12"]) == 0
    model = minbert.load_run(tmp_path / "run")
    assert list(model.tasks) == ["sst5", "quora", "sts"]
    for name, task in model.tasks.items():
        rows = read_examples(task, course, "dev").rows
        texts = [(row.text, row.pair) if row.pair is not None else row.text for row in rows]
        written = read_predictions(tmp_path / "run", name, "dev")
        answers = model.predict(texts, name)
        if task.labels:
            assert [a.prediction for a in answers] == written
        else:
            assert [a.prediction for a in answers] == pytest.approx(list(map(float, written)), abs=1e-5)
            assert all(a.probabilities == {} for a in answers)
    with pytest.raises(InputError, match="several tasks: choose one: sst5, quora, sts"):
        model.predict(["a"])
    with pytest.raises(InputError, match="no task 'rte': sst5, quora, sts"):
        model.predict(["a"], "rte")


def test_the_same_text_gets_the_same_answer_twice_and_in_any_company(run):
    """A model that is read back is in eval mode, and padding changes nothing."""
    model = minbert.load_run(run)
    alone, again = model.predict([PAIR])[0], model.predict([PAIR])[0]
    assert alone == again
    (_, beside) = model.predict([("green " * 12, "green"), PAIR])
    assert beside.probabilities == pytest.approx(alone.probabilities, abs=1e-6)
    assert model.predict([]) == []
    assert not any(module.training for module in model.model.modules())


def test_a_run_that_is_older_than_a_setting_is_read(model_folder, data_folder, tmp_path):
    """The new settings have their defaults, with which the run was made."""
    folder = tmp_path / "run"
    assert train.main([*RUN, "--model", str(model_folder), "--data", str(data_folder), "--out", str(folder)]) == 0
    saved = json.loads((folder / "settings.json").read_text())
    expected = minbert.load_run(folder).predict([PAIR])
    (folder / "settings.json").write_text(json.dumps({k: v for k, v in saved.items() if k not in NEW_SETTINGS}))
    assert minbert.load_run(folder).predict([PAIR]) == expected
    (folder / "settings.json").write_text(json.dumps({k: v for k, v in saved.items() if k != "method_settings"}))
    with pytest.raises(InputError, match="lacks 'method_settings'"):  # without it another model might be built
        minbert.load_run(folder)


def test_a_folder_that_transformers_would_write_is_read_with_its_labels(tmp_path):
    model = make_model(TASKS["mnli"]).eval()
    weights.save_model(model, tmp_path)
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nred\ngreen\n", encoding="utf-8")
    loaded = minbert.load_run(tmp_path)
    for text, ids, types in (("red", [2, 5, 3], [0, 0, 0]), (("red", "green"), [2, 5, 3, 6, 3], [0, 0, 0, 1, 1])):
        bert = model.bert(torch.tensor([ids]), token_type_ids=torch.tensor([types]))
        expected = model.heads["mnli"](bert.pooler_output).softmax(-1)[0].tolist()
        (answer,) = loaded.predict([text])
        assert list(answer.probabilities) == list(TASKS["mnli"].labels)
        assert list(answer.probabilities.values()) == pytest.approx(expected, abs=1e-6)


def test_probabilities_of_one_logit_are_those_of_the_sigmoid():
    logits = np.array([[0.0], [2.0], [-700.0], [800.0]])
    expected = [[0.5, 0.5], [1 / (1 + np.e**2), 1 / (1 + np.e**-2)], [1, np.exp(-700)], [0, 1]]
    np.testing.assert_allclose(probabilities(TASKS["quora"], logits), expected, rtol=1e-12)


def test_a_tokenizer_of_another_model_is_refused(model_folder):
    with pytest.raises(InputError, match="the tokenizer's ids go up to"):
        TextModel(make_model(vocab_size=9), load_tokenizer(model_folder), 32)


def standard_input(content: bytes) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(content), encoding="utf-8")


def test_standard_input_has_the_lines_of_a_file(run, monkeypatch, capsys, tmp_path):
    """Only a line feed ends a line, and what is not UTF-8 is one message."""
    (tmp_path / "in.txt").write_bytes(b"red\rgreen\tred\ngreen\tred\n")
    assert predict.main([str(run), "--file", str(tmp_path / "in.txt")]) == 0
    expected = capsys.readouterr().out
    monkeypatch.setattr(sys, "stdin", standard_input((tmp_path / "in.txt").read_bytes()))
    assert predict.main([str(run)]) == 0
    assert capsys.readouterr().out == expected and expected.count("\n") == 2
    for content, message in (
        (b"red\tred\n\xff\tred\n", "standard input:2 is not UTF-8"),
        (b"", "standard input is empty"),
    ):
        monkeypatch.setattr(sys, "stdin", standard_input(content))
        assert predict.main([str(run)]) == 2
        assert message in capsys.readouterr().err


def test_the_program_prints_one_line_for_each_text(run, monkeypatch, capsys, tmp_path):
    assert predict.main([str(run), *PAIR]) == 0
    (answer,) = minbert.load_run(run).predict([PAIR])
    line = f"{answer.prediction}  " + "  ".join(f"{label} {p:.3f}" for label, p in answer.probabilities.items())
    assert capsys.readouterr().out == line + "\n"
    monkeypatch.setattr(sys, "stdin", standard_input(b"red red red\tred\r\ngreen\tred\n"))
    assert predict.main([str(run)]) == 0
    assert capsys.readouterr().out.splitlines()[0] == line
    source, out = tmp_path / "in.txt", tmp_path / "out.csv"
    source.write_text("red red red\tred\ngreen\tred\n", encoding="utf-8")
    assert predict.main([str(run), "--file", str(source), "--out", str(out)]) == 0
    rows = list(csv.DictReader(io.StringIO(out.read_text())))
    assert [row["id"] for row in rows] == ["1", "2"] and rows[0]["prediction"] == answer.prediction
    assert {k: float(rows[0][k]) for k in answer.probabilities} == pytest.approx(answer.probabilities, rel=1e-6)


def test_flags_may_stand_before_the_text(run, capsys):
    """As in `predict RUN --task sst5 "a film"`, which people type."""
    assert predict.main([str(run), *PAIR, "--task", "rte"]) == 0
    expected = capsys.readouterr().out
    assert predict.main([str(run), "--task", "rte", *PAIR]) == 0
    assert capsys.readouterr().out == expected
    assert predict.main([str(run), "--tsk", "rte", *PAIR]) == 2
    assert "unrecognized arguments: --tsk" in capsys.readouterr().err


def test_a_single_text_is_not_read_letter_by_letter(run):
    with pytest.raises(InputError, match=r"predict takes a list of texts: predict\(\['a bird slept \.'\]\)"):
        load_run(run).predict("a bird slept .")


def test_a_missing_folder_of_the_output_is_named_before_anything_is_read(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("minbert.predict.load_run", lambda _: pytest.fail("the model was read"))
    assert predict.main([str(run), "a", "b", "--out", str(tmp_path / "nofolder" / "o.csv")]) == 2
    assert f"{tmp_path / 'nofolder'} is not a folder" in capsys.readouterr().err


def test_an_existing_file_is_not_overwritten(run, tmp_path, capsys):
    texts = tmp_path / "texts.txt"
    texts.write_text("red\tgreen\n")
    assert predict.main([str(run), "--file", str(texts), "--out", str(texts)]) == 2
    assert f"--out {texts} exists: delete it or name another" in capsys.readouterr().err
    assert texts.read_text() == "red\tgreen\n"


def test_a_table_is_not_read_as_lines_of_text(run, tmp_path, capsys):
    """Its header would get an answer, and its ids would be read as text."""
    (tmp_path / "texts.csv").write_text("id,sentence1,sentence2\n7,red,green\n")
    assert predict.main([str(run), "--file", str(tmp_path / "texts.csv")]) == 2
    assert "rte takes a file with one text a line, a tab before its pair" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["RUN", "red"], "text 1 is a single sentence, and rte has pairs"),
        (["RUN", "a", "b", "c"], "3 texts: give one sentence or a pair, and quote each sentence"),
        (["RUN", "a", " "], "the command line has an empty sentence"),
        (["RUN", "a", "b", "--file", "x"], "--file has no effect when the command line has a text"),
        (["RUN", "--file", "x"], "x cannot be read: No such file or directory"),
        (["RUN", "a", "b", "--task", "cola"], "the model has no task 'cola': rte"),
        (
            ["RUN", "a", "b", "--out", "/nowhere/x.csv"],
            "--out /nowhere/x.csv cannot be written: /nowhere is not a folder",
        ),
        (["RUN", "a", "--mask", "b"], "a text has no effect with --mask"),
        (["/tmp/nowhere", "a"], "/tmp/nowhere is neither a run folder (no settings.json) nor a saved model"),
    ],
)
def test_mistakes_get_one_line(arguments, message, run, capsys):
    assert predict.main([str(run) if argument == "RUN" else argument for argument in arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_a_line_with_two_tabs_is_refused(run, tmp_path, capsys):
    (tmp_path / "in").write_text("a\tb\na\tb\tc\n", encoding="utf-8")
    assert predict.main([str(run), "--file", str(tmp_path / "in")]) == 2
    assert f"{tmp_path / 'in'}:2 has 2 tabs: a line is one sentence, or two" in capsys.readouterr().err


def test_a_run_that_kept_no_model_is_refused(model_folder, data_folder, tmp_path, capsys):
    flags = ["--model", str(model_folder), "--data", str(data_folder), "--out", str(tmp_path / "run")]
    assert train.main([*RUN, *flags, "--save", "none"]) == 0
    assert predict.main([str(tmp_path / "run"), *PAIR]) == 2
    assert "has no model/: the run was made with --save none" in capsys.readouterr().err

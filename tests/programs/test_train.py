"""train.py as a user runs it, on tiny files: what it prints and writes, and what its flags change."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from support.factories import make_model

import multitask
import train
from minbert import BertModel, SentenceModel, load_tokenizer, weights
from minbert.data.dataset import Dataset
from minbert.data.readers import read_examples
from minbert.data.tasks import TASKS
from minbert.training import run as run_module
from minbert.training.arguments import parse_settings
from minbert.training.settings import Settings

ROOT = Path(__file__).resolve().parents[2]


def test_a_whole_run_learns_and_writes_its_folder(arguments, tmp_path):
    command = [sys.executable, str(ROOT / "train.py"), *arguments, "--option", "smart", "--lr", "1e-2", "--epochs", "8"]
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=os.environ | threads)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "run"
    last = done.stdout.splitlines()[-1]
    metrics = json.loads((folder / "metrics.json").read_text())
    assert f"score {metrics['score']:.4f} (accuracy " in last and last.endswith(str(folder))
    assert (metrics["task"], metrics["option"], metrics["seed"], metrics["split"]) == ("rte", "smart", 0, "dev")
    assert metrics["metrics"].keys() == metrics["majority"].keys() == {"accuracy"}
    assert metrics["steps"] == 64 and metrics["epochs"] == 8 and len(metrics["history"]) == 8
    assert metrics["history"][-1]["dev"]["score"] == metrics["score"]
    assert metrics["failed"] is False and metrics["failure"] == ""
    assert metrics["parameters"] == metrics["trainable_parameters"] and metrics["added_parameters"] == 0
    for name in ("train_loss", "seconds", "examples_per_second", "tokens_per_second", "peak_memory_bytes"):
        assert metrics[name] > 0
    settings = json.loads((folder / "settings.json").read_text())
    assert (settings["lr"], settings["warmup"], settings["precision"]) == (1e-2, 0.1, "fp32")
    assert settings["versions"]["torch"] == torch.__version__
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert rows[-1]["step"] == 64 and set(rows[0]["penalty"]) == {"smart.smoothness", "smart.proximal"}
    assert metrics["method"] == {"smart.start_in_teacher": pytest.approx(0.5 ** (1 / 0.05))}  # 20 half-lives of 0.05
    assert f"smart.start_in_teacher {metrics['method']['smart.start_in_teacher']:.4f}" in done.stdout
    assert BertModel.from_pretrained(folder / "model").config.hidden_size == 12
    assert (folder / "model" / "tokenizer.json").exists()
    assert not [p for p in folder.rglob("*") if p.name.startswith(".")]


def test_the_shortest_input_holds_one_token_of_each_sentence(arguments, tmp_path, capsys):
    """[CLS] a [SEP] b [SEP]"""
    assert train.main([*arguments, "--max-steps", "1", "--max-length", "5"]) == 0
    assert "--max-length 5" in capsys.readouterr().out
    assert train.main([*arguments, "--max-steps", "1", "--max-length", "4", "--out", str(tmp_path / "other")]) == 2


def test_the_score_is_that_of_the_saved_model(arguments, tmp_path, read_json):
    """Read model/ back with nothing but the public names, and score it by hand."""
    assert train.main([*arguments, "--lr", "3e-3"]) == 0
    folder, task = tmp_path / "run" / "model", TASKS["rte"]
    model = SentenceModel(BertModel.from_pretrained(folder), [task]).eval()
    head = {n: t for n, t in load_file(folder / "model.safetensors").items() if n.startswith("classifier.")}
    model.heads["rte"].load_state_dict({n.removeprefix("classifier."): t for n, t in head.items()})
    dev = Dataset(task, read_examples(task, arguments[3], "dev"), load_tokenizer(folder), 32)
    predicted = model(dev.collate(list(range(40)))).logits.argmax(-1)
    accuracy = (predicted == dev.labels).double().mean().item()
    assert read_json(tmp_path / "run" / "metrics.json")["score"] == pytest.approx(accuracy)


def test_frozen_changes_the_head_alone(arguments, tmp_path, read_json, model_folder):
    assert train.main([*arguments, "--option", "frozen", "--max-steps", "3", "--evaluate", "dev", "train"]) == 0
    before, after = (load_file(f / "model.safetensors") for f in (model_folder, tmp_path / "run" / "model"))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"classifier.weight", "classifier.bias"}
    metrics = read_json(tmp_path / "run" / "metrics.json")
    assert metrics["trainable_parameters"] == 12 * 2 + 2
    assert read_json(tmp_path / "run" / "settings.json")["lr"] == 1e-3
    assert metrics["history"][0].keys() == {"epoch", "dev", "train"}


def run(arguments, folder, *more) -> dict:
    """Train to `folder`; returns the saved tensors."""
    assert train.main([*arguments, "--out", str(folder), "--max-steps", "2", *more]) == 0
    return load_file(folder / "model" / "model.safetensors")


def equal(a: dict, b: dict) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


def test_the_seeds_of_the_head_and_of_the_order_can_be_fixed(arguments, tmp_path):
    heads = {
        name: run(arguments, tmp_path / name, "--lr", "0", *more)["classifier.weight"]
        for name, more in (("a", []), ("b", ["--seed", "1"]), ("c", ["--seed", "1", "--init-seed", "0"]))
    }
    assert torch.equal(heads["a"], heads["c"]) and not torch.equal(heads["a"], heads["b"])
    steady = ["--dropout", "0", "--init-seed", "0", "--lr", "1e-3", "--schedule", "constant"]
    same, other, held = (
        run(arguments, tmp_path / name, *steady, *more)
        for name, more in (("d", []), ("e", ["--seed", "1"]), ("f", ["--seed", "1", "--data-seed", "0"]))
    )
    assert equal(same, held) and not equal(same, other)


def test_dropout_and_train_size_and_compile_take_effect(arguments, tmp_path, read_json, monkeypatch, capsys):
    steady = ["--lr", "1e-3", "--schedule", "constant"]
    with_dropout = run(arguments, tmp_path / "a", *steady)
    without = run(arguments, tmp_path / "b", "--dropout", "0", *steady)
    assert not equal(with_dropout, without)
    config = read_json(tmp_path / "b" / "settings.json")["config"]
    assert config["hidden_dropout_prob"] == config["attention_probs_dropout_prob"] == 0.0
    compiled = []
    monkeypatch.setattr(run_module, "compile_layers", compiled.append)
    run(arguments, tmp_path / "c", "--train-size", "9", "--compile")
    assert len(compiled) == 1
    assert "9 examples, 2 steps, cpu in fp32" in capsys.readouterr().out


def test_settings_that_are_not_the_defaults_are_printed(arguments, tmp_path, capsys):
    run(arguments, tmp_path / "a", "--lr", "0.001")
    said = capsys.readouterr().out
    assert "not the defaults: --batch-size 16 --lr 0.001 --max-length 32 --max-steps 2" in said


def test_save_none_leaves_out_the_model_and_rows_without_a_label_are_reported(arguments, tmp_path, data_folder, capsys):
    rte = tmp_path / "data" / "RTE"
    rte.mkdir(parents=True)
    for split in ("train", "dev"):
        text = (data_folder / "RTE" / f"{split}.tsv").read_text()
        (rte / f"{split}.tsv").write_text(text + "99\ta\tb\t\n")
    assert train.main([*arguments, "--data", str(tmp_path / "data"), "--save", "none", "--max-steps", "1"]) == 0
    assert "train.tsv: left out 1 row without a label, line 122" in capsys.readouterr().out
    assert {p.name for p in (tmp_path / "run").iterdir()} == {
        "settings.json", "log.jsonl", "metrics.json", "predictions"
    }  # fmt: skip


def test_help_names_the_flags_of_the_program_first(capsys):
    for program, own, shared in ((train, "--task TASK", "--data DATA"), (multitask, "--sampling", "--data DATA")):
        with pytest.raises(SystemExit):
            program.main(["--help"])
        text = capsys.readouterr().out.partition("options:")[2]
        assert 0 < text.index(own) < text.index(shared)


def test_options_lists_the_methods_with_their_hyper_parameters(capsys):
    assert train.main(["--options"]) == 0
    assert "smart.eps=0.01" in capsys.readouterr().out


def test_a_run_that_gives_one_answer_for_all_has_failed_and_says_so(arguments, tmp_path, capsys, read_json):
    assert train.main([*arguments, "--lr", "0", "--max-steps", "1"]) == 0  # it is complete all the same
    metrics = read_json(tmp_path / "run" / "metrics.json")
    assert metrics["failed"] is True and metrics["failure"] == "dev: every example gets the same prediction"
    assert f"FAILED RUN: {metrics['failure']}" in capsys.readouterr().out.splitlines()


def test_a_run_whose_loss_is_not_finite_has_metrics_that_say_so(arguments, tmp_path, capsys, read_json):
    assert train.main([*arguments, "--lr", "1e30", "--clip", "0"]) == 1
    assert "is not finite; " in capsys.readouterr().err
    metrics = read_json(tmp_path / "run" / "metrics.json")
    assert metrics["failed"] is True and "not finite" in metrics["failure"]


def test_a_model_without_segments_refuses_a_task_of_pairs(arguments, model_folder, tmp_path, capsys):
    weights.save_model(make_model(type_vocab_size=1), tmp_path / "model")
    (tmp_path / "model" / "vocab.txt").write_bytes((model_folder / "vocab.txt").read_bytes())
    assert train.main([*arguments, "--model", str(tmp_path / "model")]) == 2
    assert "type_vocab_size is 1" in capsys.readouterr().err


def test_one_task_trains_without_the_apportionment_of_several_tasks(arguments, monkeypatch):
    def refuse(*_, **__):
        pytest.fail("a single-task run went through the sampling of several tasks")

    monkeypatch.setattr("minbert.data.sampling.apportion", refuse)
    monkeypatch.setattr("minbert.training.run.TaskBatchSampler.__init__", refuse)
    assert train.main([*arguments, "--max-steps", "9"]) == 0


def test_only_the_first_process_reports_a_mistake(arguments, monkeypatch, capsys):
    monkeypatch.setenv("RANK", "1")
    assert train.main([*arguments, "--lr", "-1"]) == 2
    assert capsys.readouterr().err == ""


def test_a_second_ctrl_c_ends_the_program_with_the_status_of_an_interruption(arguments, monkeypatch, capsys):
    """The first lets the step end. The second comes as Python's KeyboardInterrupt."""

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "fine_tune", interrupt)
    assert train.main(arguments) == 130
    assert capsys.readouterr() == ("", "train.py: interrupted\n")


def test_the_defaults_of_train_are_those_of_the_papers():
    settings = parse_settings(Settings, ["--model", "m", "--data", "d"], "").resolve()
    assert (settings.task, settings.epochs, settings.batch_size, settings.lr) == ("rte", 3, 32, 2e-5)
    assert (settings.schedule, settings.warmup, settings.weight_decay, settings.clip) == ("linear", 0.1, 0.01, 1.0)
    assert (settings.bias_correction, settings.max_length, settings.seed) == (True, 256, 0)
    assert (
        parse_settings(Settings, ["--model", "m", "--data", "d", "--no-bias-correction"], "").bias_correction is False
    )


def test_a_default_that_the_option_brings_is_not_listed_among_the_changes(arguments, capsys):
    assert train.main([*arguments, "--option", "lora", "--max-steps", "1"]) == 0
    said = capsys.readouterr().out
    assert "not the defaults: --batch-size 16 --max-length 32 --max-steps 1\n" in said


def test_a_default_that_follows_from_another_setting_is_not_listed_among_the_changes():
    usual = ["--record", "gradients", "--schedule", "constant"]
    for more in ([], ["--record-every", "5"]):
        settings = parse_settings(Settings, [*usual, *more], "").resolve()
        assert settings.describe_changes() == " ".join(["--schedule constant --record gradients", *more])


def test_only_a_dev_set_that_was_cut_is_said_to_be_incomplete(arguments, tmp_path, capsys):
    for size, is_cut in (("39", True), ("40", False)):  # there are 40 examples
        assert train.main([*arguments, "--out", str(tmp_path / size), "--max-steps", "1", "--dev-size", size]) == 0
        assert ("the files with dev predictions are incomplete" in capsys.readouterr().out) == is_cut


def test_dev_size_scores_and_predicts_the_same_few_examples_for_every_seed(arguments, tmp_path, read_json):
    ids = []
    for seed in ("0", "1"):
        out = tmp_path / f"seed{seed}"
        assert train.main([*arguments, "--out", str(out), "--max-steps", "1", "--dev-size", "7", "--seed", seed]) == 0
        rows = (out / "predictions" / "dev" / "RTE.tsv").read_text().splitlines()[1:]
        ids.append([row.split("\t")[0] for row in rows])
        assert read_json(out / "metrics.json")["score"] * 7 == pytest.approx(
            round(read_json(out / "metrics.json")["score"] * 7), abs=1e-9
        )
    assert len(ids[0]) == 7 and ids[0] == ids[1]


def test_a_run_asks_the_model_hub_for_its_family_and_for_its_files(arguments, model_folder, monkeypatch):
    """Twice, and not once for each file: the files of a run are of one revision."""
    asked = []

    def snapshot_download(name, **_):
        asked.append(name)
        return str(model_folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    assert train.main([*arguments, "--model", "owner/model", "--max-steps", "1"]) == 0
    assert asked == ["owner/model"] * 2


def test_a_missing_compiler_is_one_line_and_another_error_of_torch_keeps_its_traceback():
    kind = type("InductorError", (RuntimeError,), {"__module__": "torch._inductor.exc"})
    text = train.one_line(kind("InvalidCxxCompiler: No working C++ compiler found in ...: (None, 'g++')\nmore"))
    assert text.startswith("--compile needs a compiler that torch can call: InvalidCxxCompiler") and "\n" not in text
    with pytest.raises(kind, match="LoweringException"):
        train.one_line(kind("LoweringException: shapes"))

"""python -m minbert.report: the page, its pictures and tables, and one line for what is no run."""

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
from support.report_pages import Page, files_of, read_tsv, report

from minbert.metrics import pearson, spearman
from minbert.report.__main__ import check_arguments, make_parser

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.filterwarnings("error"), pytest.mark.usefixtures("quick_pictures")]


def test_the_report_of_a_run_is_in_its_folder(rte, copy, capsys):
    folder = copy(rte)
    before = files_of(folder)
    assert report(folder) == 0
    files, page = capsys.readouterr().out.splitlines()
    pictures = ["curves", "confusion-rte-dev", "calibration-rte-dev"]
    tables = ["runs", *pictures, "classes-rte-dev", "mistakes-rte-dev"]
    expected = {f"{name}.{kind}" for name in pictures for kind in ("png", "svg")} | {f"{name}.tsv" for name in tables}
    assert files_of(folder) - before == {f"report/{name}" for name in expected | {"report.html"}}
    assert set(files.split()) == {name for name in expected if not name.endswith(".svg")}
    assert page.split()[0] == str(folder / "report" / "report.html")


def test_files_of_an_earlier_report_do_not_stay_beside_the_new_page(rte, copy, tmp_path, capsys):
    """The data have changed since: there are no predictions any more, and the terminal says so, too."""
    folder, out = copy(rte), tmp_path / "out"
    assert report(folder, "--out", out) == 0
    (out / "confusion-notes.txt").write_text("the user's own")
    (out / "curves-of-tasks.png").touch()  # of an earlier run of several tasks
    settings = json.loads((folder / "settings.json").read_text())
    settings["fingerprint"]["the dev data of rte"] = "another"
    (folder / "settings.json").write_text(json.dumps(settings))
    capsys.readouterr()
    assert report(folder, "--out", out) == 0
    note = f"note: {folder.name}: no predictions of rte dev: the data have changed since the run"
    assert note in capsys.readouterr().out.splitlines()
    names = {"report.html", "runs.tsv", "curves.tsv", "curves.png", "curves.svg", "confusion-notes.txt"}
    assert files_of(out) == names


def test_the_numbers_of_the_tables_are_those_of_the_run(rte, tmp_path, read_json):
    assert report(rte, "--out", tmp_path, "--mistakes", 3) == 0
    metrics = read_json(rte / "metrics.json")
    (run,) = read_tsv(tmp_path / "runs.tsv")
    expected = {"run": "rte-smart-seed0", "task": "rte", "option": "smart", "seed": "0", "epochs": "2"}
    assert run == expected | {"state": run["state"], "steps": "30", "dev_score": f"{metrics['score']:.6g}"}
    counts = [
        [int(row["entailment"]), int(row["not_entailment"])] for row in read_tsv(tmp_path / "confusion-rte-dev.tsv")
    ]
    assert sum(map(sum, counts)) == 25
    assert (counts[0][0] + counts[1][1]) / 25 == pytest.approx(metrics["score"])
    assert sum(int(row["number"]) for row in read_tsv(tmp_path / "calibration-rte-dev.tsv")) == 25
    assert [int(row["number"]) for row in read_tsv(tmp_path / "classes-rte-dev.tsv")] == list(map(sum, counts))
    mistakes = read_tsv(tmp_path / "mistakes-rte-dev.tsv")
    assert len(mistakes) == min(3, counts[0][1] + counts[1][0])
    losses = [float(row["loss"]) for row in mistakes]
    assert losses == sorted(losses, reverse=True) and all(row["label"] != row["prediction"] for row in mistakes)
    assert all(float(row["probability"]) >= 0.5 for row in mistakes)
    curves = read_tsv(tmp_path / "curves.tsv")
    assert [float(row["value"]) for row in curves if row["quantity"] == "dev_score"][-1] == pytest.approx(
        metrics["score"], rel=1e-5
    )


def test_the_mistakes_name_the_line_of_the_file(rte, rte_data, tmp_path):
    report(rte, "--out", tmp_path)
    lines = (rte_data / "RTE" / "dev.tsv").read_text().splitlines()
    rows = read_tsv(tmp_path / "mistakes-rte-dev.tsv")
    assert len(rows) >= 5
    for row in rows:
        assert lines[int(row["line"]) - 1].split("\t") == [row["id"], row["text"], row["pair"], row["label"]]


def test_a_regression_has_a_scatter_plot_with_its_correlations(pairs, tmp_path):
    assert report(pairs, "--out", tmp_path, "--mistakes", 4) == 0
    rows = read_tsv(tmp_path / "predictions-pairs-dev.tsv")
    labels, predictions = ([float(row[name]) for row in rows] for name in ("label", "prediction"))
    page = Page(tmp_path / "report.html")
    assert len(rows) == 20 and (tmp_path / "scatter-pairs-dev.png").exists()
    mistakes = read_tsv(tmp_path / "mistakes-pairs-dev.tsv")
    expected = sorted(((p - y) ** 2 for p, y in zip(predictions, labels)), reverse=True)[:4]
    assert [float(row["loss"]) for row in mistakes] == pytest.approx(expected, rel=1e-3)
    assert re.search(r"20 examples: pearson −?-?\d", page.text)


def test_the_correlations_in_the_title_are_those_of_metrics(pairs, tmp_path, monkeypatch):
    titles = []
    figure = __import__("minbert.report.pictures", fromlist=["x"]).scatter_figure
    monkeypatch.setattr("minbert.report.pictures.scatter_figure", lambda *a: titles.append(a[:3]) or figure(*a))
    report(pairs, "--out", tmp_path)
    ((labels, predictions, text),) = titles
    assert text == f"Pearson {pearson(predictions, labels):.4f}, Spearman {spearman(predictions, labels):.4f}"


def test_hostile_texts_stay_texts(reviews, pairs, tmp_path):
    for folder, name in ((reviews, "reviews"), (pairs, "pairs")):
        out = tmp_path / name
        assert report(folder, "--out", out, "--mistakes", 99) == 0
        page, rows = Page(out / "report.html"), read_tsv(out / f"mistakes-{name}-dev.tsv")
        assert "script" not in page.tags and not set("\x00\x1b\u202e\u2066\u2028") & set(page.text)
        text = (out / f"mistakes-{name}-dev.tsv").read_text(encoding="utf-8")
        assert not set("\x00\x1b\u202e\u2066\u2028\r") & set(text)
        assert max(len(row["text"]) for row in rows) <= 620
    # all 20 pairs are listed, so each text is there
    assert r"red\tgreen\nfish\r\n\x1b[31mcat\x00\u2028dog" in text and "שלום עולם كلب" in text and "👩‍👩‍👧" in text
    assert "<script>alert('&amp;')</script> | a_b *c* `d`" in page.cells
    assert r"red green fish \x1b[31mcat\x00 dog" in page.cells and "שלום עולם كلب" in page.cells
    assert any(cell.startswith("red red") and cell.endswith("…") for cell in page.cells)


def test_several_runs_of_different_tasks_are_on_one_page(rte, pairs, multi, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert report(rte, pairs, multi) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("report-out/report.html")
    out = tmp_path / "report-out"
    assert [row["run"] for row in read_tsv(out / "runs.tsv")] == ["rte-smart-seed0", "pairs", "multi"]
    assert {"curves.png", "curves-of-tasks.svg"} <= files_of(out)
    assert {path.name for path in (out / "runs").iterdir()} == {"rte-smart-seed0", "pairs", "multi"}
    names = {path.name for path in (out / "runs" / "multi").iterdir()}
    assert names >= {"confusion-sst5-dev.png", "calibration-quora-dev.svg", "scatter-sts-dev.png"}


def test_runs_of_one_name_have_folders_of_their_own(reviews, pairs, copy, tmp_path):
    one, other = copy(reviews, "a/run"), copy(pairs, "b/run")
    assert report(one, other, "--out", tmp_path / "out") == 0
    assert [row["run"] for row in read_tsv(tmp_path / "out" / "runs.tsv")] == [str(one), str(other)]
    assert len(list((tmp_path / "out" / "runs").iterdir())) == 2


def test_no_mistakes_are_listed_if_none_are_asked_for(rte, tmp_path):
    assert report(rte, "--out", tmp_path, "--mistakes", 0) == 0
    assert not list(tmp_path.glob("mistakes*"))


def test_without_a_model_the_page_says_what_is_missing(rte, copy):
    folder = copy(rte)
    shutil.rmtree(folder / "model")
    assert report(folder) == 0
    text = (folder / "report" / "report.html").read_text()
    assert "no calibration and no losses: the run kept no model (--save model keeps it)" in text
    assert "in the order of the file" in text
    assert not list((folder / "report").glob("calibration*"))
    lines = [int(row["line"]) for row in read_tsv(folder / "report" / "mistakes-rte-dev.tsv")]
    assert lines == sorted(lines) and "loss" not in read_tsv(folder / "report" / "mistakes-rte-dev.tsv")[0]


def unfinish(folder: Path) -> Path:
    (folder / "metrics.json").unlink()
    return folder


def test_a_run_that_is_not_finished_has_its_curves(rte, copy):
    folder = unfinish(copy(rte))
    with (folder / "log.jsonl").open("a") as file:
        file.write('5\n{"step": 40, "loss": null}\n{"step": 50, "lo')  # killed while it wrote
    assert report(folder) == 0
    assert files_of(folder / "report") == {"report.html", "runs.tsv", "curves.tsv", "curves.png", "curves.svg"}
    (run,) = read_tsv(folder / "report" / "runs.tsv")
    assert (run["state"], run["dev_score"]) == ("stopped", "")
    assert "The run is stopped: its predictions follow" in (folder / "report" / "report.html").read_text()
    assert [row["position"] for row in read_tsv(folder / "report" / "curves.tsv") if row["quantity"] == "loss"] == [
        "10", "15", "20", "30"
    ]  # fmt: skip


def test_a_run_without_a_log_has_a_page(rte, copy):
    folder = unfinish(copy(rte))
    (folder / "log.jsonl").unlink()
    assert report(folder) == 0
    assert "The log has no row yet" in (folder / "report" / "report.html").read_text()
    assert files_of(folder / "report") == {"report.html", "runs.tsv", "curves.tsv"}


def fail(folder: Path) -> Path:
    values = json.loads((folder / "metrics.json").read_text())
    values |= {"score": None, "history": None, "failed": True, "failure": "step 3: the loss is not <finite>"}
    (folder / "metrics.json").write_text(json.dumps(values))
    return folder


@pytest.mark.parametrize("end", [unfinish, fail])
def test_a_stopped_or_failed_run_has_the_scores_of_its_checkpoint(make_run, rte_data, copy, end):
    flags = "--epochs 2 --save all --train-size 8".split()
    folder = end(copy(make_run("x", "--data", str(rte_data), *flags)))
    assert report(folder) == 0
    assert read_tsv(folder / "report" / "runs.tsv")[0]["epochs"] == "2"
    scores = [row for row in read_tsv(folder / "report" / "curves.tsv") if row["quantity"] == "dev_score"]
    assert [row["position"] for row in scores] == ["1", "2"]
    for path in (folder / "checkpoint").iterdir():
        path.write_bytes(b"damaged")
    assert report(folder) == 0
    assert "dev_score" not in (folder / "report" / "curves.tsv").read_text().partition("\n")[2]


def test_a_failed_run_says_why(rte, copy):
    folder = fail(copy(rte))
    assert report(folder) == 0
    text = (folder / "report" / "report.html").read_text()
    assert "rte-smart-seed0 failed" not in text and "copy failed: step 3: the loss is not &lt;finite&gt;" in text
    assert (folder / "report" / "curves.png").exists()


def no_settings(folder: Path) -> None:
    (folder / "settings.json").unlink()


def other_settings(folder: Path) -> None:
    (folder / "settings.json").write_text('{"learning_rate": 1}')


def change_settings(**values):
    """Spoil single values of settings.json."""

    def change(folder: Path) -> None:
        path = folder / "settings.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return change


def settings_without_json(folder: Path) -> None:
    (folder / "settings.json").write_text("[" * 100_000)


def other_metrics(folder: Path) -> None:
    (folder / "metrics.json").write_text('{"accuracy": 0.9}')


def damaged_model(folder: Path) -> None:
    (folder / "model" / "model.safetensors").write_bytes(b"no")


@pytest.mark.parametrize(
    "spoil, problem",
    [
        (no_settings, "is not a run folder: it has no settings.json"),
        (other_settings, "settings.json lacks"),
        (settings_without_json, "settings.json is not valid JSON"),
        (change_settings(task_files=[]), "settings.json does not hold the settings of a run: task_files is []"),
        (change_settings(task_files={"a": 3}), "settings.json does not hold the settings of a run: task_files is"),
        (change_settings(task=["rte"]), "settings.json does not hold the settings of a run: task is"),
        (change_settings(tasks=None), "settings.json"),
        (change_settings(tasks=[["rte"]]), "settings.json"),
        (other_metrics, "is not that of a finished run"),
        (damaged_model, "model.safetensors"),
    ],
)
def test_what_is_no_run_is_refused_in_one_line(rte, copy, capsys, spoil, problem):
    folder = copy(rte)
    spoil(folder)
    assert report(folder) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("minbert.report: ") and problem in line
    assert not (folder / "report" / "report.html").exists()


def test_mistakes_on_the_command_line(rte, tmp_path, capsys):
    for argv, problem in (
        ([rte, "--every", 3], "--every has no effect without --follow"),
        ([rte, "--follow", "--every", 0], "must be from 0.1 to 86400 seconds"),
        ([rte, "--mistakes", -1], "must be at least 0"),
        ([rte, "--tensorboard", tmp_path, "--out", tmp_path], "--out has no effect with --tensorboard"),
        ([rte, rte], "a RUN is given twice"),
        ([rte, rte / ".." / rte.name], "a RUN is given twice"),
        ([rte, "--out", "\udcff"], "a path is not UTF-8"),
        ([tmp_path / "nowhere"], "is not a run folder"),
        ([], "required: RUN"),
    ):
        assert report(*argv) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("minbert.report: ") and problem in line


def test_a_folder_that_cannot_be_written_is_one_line(rte, tmp_path, capsys):
    (tmp_path / "file").touch()
    assert report(rte, "--out", tmp_path / "file" / "out") == 2
    assert capsys.readouterr().err.startswith(f"minbert.report: --out {tmp_path / 'file' / 'out'} cannot be written: ")


def test_a_report_that_cannot_be_finished_leaves_the_old_page(rte, copy, monkeypatch):
    folder = copy(rte)
    assert report(folder) == 0
    before = (folder / "report" / "report.html").read_bytes()

    def fail(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("minbert.files.os.replace", fail)
    assert report(folder) == 2
    assert (folder / "report" / "report.html").read_bytes() == before
    assert not [name for name in files_of(folder / "report") if Path(name).name.startswith(".")]


def test_without_matplotlib_one_line_says_what_to_install(rte, monkeypatch, capsys):
    monkeypatch.setattr("minbert.report.requirements.find_spec", lambda name: None)
    assert report(rte) == 2
    assert capsys.readouterr().err == "minbert.report: matplotlib missing: pip install -r requirements-study.txt\n"


def test_the_commands_of_the_documents_are_read():
    text = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "README.md", ROOT / "docs" / "report.md"))
    commands = re.findall(r"python -m minbert\.report ([^#\n`]*)", text)
    assert len(commands) >= 6
    for line in commands:
        check_arguments(make_parser().parse_args(shlex.split(line)))

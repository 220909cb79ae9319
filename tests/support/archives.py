"""Archives of RTE as its publisher makes them, for the tests of downloads."""

import io
import zipfile
from pathlib import Path

from minbert.download.__main__ import main


def zip_of(members: dict[str, str]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:  # not compressed, so that a test can find and change a byte of a text
        for name, text in members.items():
            archive.writestr(name, text)
    return file.getvalue()


def rte_file(*labels: str) -> str:
    rows = [f"{i}\ta sentence\tanother\t{label}" for i, label in enumerate(labels)]
    return "\n".join(["index\tsentence1\tsentence2\tlabel", *rows]) + "\n"


RTE = {
    "RTE/train.tsv": rte_file("entailment", "not_entailment", "entailment"),
    "RTE/dev.tsv": rte_file("entailment", "not_entailment"),
    "RTE/test.tsv": "index\tsentence1\tsentence2\n0\ta\tb\n",
}


def download(web, data: Path, *tasks: str) -> int:
    return main([*tasks, "--to", str(data), "--from", f"{web.url}/"])


def texts_below(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): p.read_text() for p in folder.rglob("*") if p.is_file()}


def error_line(capsys) -> str:
    (line,) = capsys.readouterr().err.splitlines()
    return line

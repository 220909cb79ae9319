"""The zip that the GLUE leaderboard takes."""

import zipfile
from pathlib import Path

from minbert.data.predictions import KNOWN_FILES, LEADERBOARD
from minbert.errors import InputError
from minbert.files import write_file
from minbert.submission.check import find_expected_rows, find_graded_folder


def pack_predictions(folder: Path, out: Path, data: Path | None = None) -> list[str]:
    """Zip the leaderboard's files in `folder`, whole or not at all. Check them first.

    A missing file is filled with a constant answer; returns a line for each of these. Raises InputError if `out`
    exists, or if `folder` has none of the files.
    """
    if out.exists():
        raise InputError(f"--out {out} exists: delete it or name another")
    folder = find_graded_folder(folder)
    files = {name: file for name, file in KNOWN_FILES.items() if file.form is LEADERBOARD}
    contents = {name: (folder / name).read_bytes() for name in files if (folder / name).exists()}
    if not contents:
        raise InputError(f"{folder} has none of the GLUE leaderboard's files")
    filled = []
    for name, file in files.items():
        if name not in contents:
            answer = file.task.labels[0] if file.task.labels else "0.0"
            keys, _, _ = find_expected_rows(file, data)
            contents[name] = file.format_content(keys, [answer] * len(keys)).encode()
            filled.append(f"{name} is not in {folder}: filled with {answer} for every row")

    def save(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            for name in sorted(contents):
                info = zipfile.ZipInfo(name)  # has a fixed date: the same predictions give the same bytes
                info.external_attr = 0o644 << 16  # without it, unzip makes files that nobody may read
                archive.writestr(info, contents[name], zipfile.ZIP_DEFLATED)

    write_file(out, save)
    return filled

"""The zip that a grader takes: the GLUE leaderboard's, or a course's."""

import zipfile
from pathlib import Path

from minbert.data.predictions import CMU, KNOWN_FILES, LEADERBOARD
from minbert.errors import InputError
from minbert.files import write_file
from minbert.submission.check import data_of_run, find_expected_rows, find_graded_folders


def pack_predictions(folder: Path, out: Path, data: Path | None = None) -> list[str]:
    """Zip the prediction files in `folder`, whole or not at all. Check them first.

    A missing file of the leaderboard is filled with a constant answer, one of a course is left out; returns a line for
    each of these. Raises InputError if `out` exists, or if `folder` has no file that a grader knows, or has files of
    the leaderboard and of a course.
    """
    if out.exists():
        raise InputError(f"{out} exists: delete it, or name another file with --out")
    data, places = data or data_of_run(folder), find_graded_folders(folder)
    folder = places[0] if len(places) == 1 else folder
    # Of two files with one name the outer one wins: the user put it there.
    paths = [place / name for place in reversed(places) for name in KNOWN_FILES if (place / name).exists()]
    files = {path.name: path.read_bytes() for path in paths}
    of_leaderboard = [name for name in files if KNOWN_FILES[name].form is LEADERBOARD]
    if not files:
        raise InputError(f"{folder} has no prediction file that a grader knows")
    if of_leaderboard and len(of_leaderboard) < len(files):
        raise InputError(f"{folder} has files of the GLUE leaderboard and of a course: zip them from two folders")
    members, notes = pack_leaderboard(files, folder, data) if of_leaderboard else pack_course(files, folder)
    write_file(out, lambda path: write_zip(path, members))
    return notes


def pack_leaderboard(files: dict[str, bytes], folder: Path, data: Path | None) -> tuple[dict[str, bytes], list[str]]:
    """All eleven files, which is what the leaderboard wants. -> (name in the zip -> content, notes)"""
    members, notes = dict(files), []
    for name, file in KNOWN_FILES.items():
        if file.form is LEADERBOARD and name not in files:
            answer = file.task.labels[0] if file.task.labels else "0.0"
            keys, _, _ = find_expected_rows(file, data)
            members[name] = file.format_content(keys, [answer] * len(keys)).encode()
            notes.append(f"{name} is not in {folder}: filled with {answer} for every row")
    return members, notes


def pack_course(files: dict[str, bytes], folder: Path) -> tuple[dict[str, bytes], list[str]]:
    """The files below predictions/, where the courses' own programs write them; CMU's lie at the top of its zip."""
    members = {}
    for name, content in files.items():
        file = KNOWN_FILES[name]
        members[name if file.form is CMU else f"predictions/{file.path.as_posix()}"] = content
    forms = [KNOWN_FILES[name].form for name in files]
    missing = [name for name, file in KNOWN_FILES.items() if file.form in forms and name not in files]
    return members, [f"{name} is not in {folder}: left out" for name in missing]


def write_zip(path: Path, members: dict[str, bytes]) -> None:
    """The same members give the same bytes."""
    with zipfile.ZipFile(path, "w") as archive:
        for name in sorted(members):
            info = zipfile.ZipInfo(name)  # has a fixed date
            info.external_attr = 0o644 << 16  # without it, unzip makes files that nobody may read
            archive.writestr(info, members[name], zipfile.ZIP_DEFLATED)

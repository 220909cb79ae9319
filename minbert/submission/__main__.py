"""What a grader would reject in a folder of predictions, and the zip for the GLUE leaderboard.

    python -m minbert.submission check DIR [--data DATA] [--complete]
    python -m minbert.submission zip DIR [--data DATA] [--out FILE]

Both compare the rows with those of the published files, or with the ids and sentences of DATA. check prints a line for
each problem; exit status 0: a grader would accept the files, 1: would reject, 2: bad usage. zip refuses what check
refuses, and fills the leaderboard's files that are missing with a constant answer.
"""

import argparse
import sys
import zipfile
from pathlib import Path

from minbert.command_line import Parser
from minbert.data.predictions import File
from minbert.errors import InputError
from minbert.files import write_file
from minbert.submission.check import KNOWN, Expected, Report, check, expect, handed_in

LEADERBOARD = {name: file for name, file in KNOWN.items() if file.form.suffix == ".tsv"}


def pack(folder: Path, out: Path, data: Path | None = None) -> list[str]:
    """Zip the leaderboard's files, whole or not at all; returns what was filled in. Check them first.

    Raises InputError if `out` exists, or `folder` has none of the files. The zip holds no dates: the same predictions
    make the same bytes.
    """
    if out.exists():
        raise InputError(f"--out {out} exists: delete it or name another")
    folder = handed_in(folder)
    contents = {name: (folder / name).read_bytes() for name in LEADERBOARD if (folder / name).exists()}
    if not contents:
        raise InputError(f"{folder} has none of the GLUE leaderboard's files")
    filled = {name: constant(file, expect(file, data)) for name, file in LEADERBOARD.items() if name not in contents}

    def save(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in sorted((contents | filled).items()):
                info = zipfile.ZipInfo(name)  # dated 1980
                info.external_attr = 0o644 << 16  # without it, unzip makes files that nobody may read
                archive.writestr(info, content, zipfile.ZIP_DEFLATED)

    write_file(out, save)
    return [f"{name} is not in {folder}: filled with {answer(LEADERBOARD[name])} for every row" for name in filled]


def constant(file: File, expected: Expected) -> str:
    rows = [file.form.row.format(key=key, value=answer(file)) for key in expected.keys]
    return "\n".join([file.form.heading(file.task.name), *rows]) + "\n"


def answer(file: File) -> str:
    return file.task.labels[0] if file.task.labels else "0.0"


def parse(argv: list[str]) -> argparse.Namespace:
    parser = Parser("submission", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (("check", "say what a grader would reject"), ("zip", "check, and pack a GLUE submission")):
        command = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        command.add_argument("folder", metavar="DIR", type=Path, help="folder with files of predictions")
        command.add_argument("--data", type=Path, help="folder of the tasks' files, as for train.py")
        if name == "check":
            command.add_argument("--complete", action="store_true", help="call for all files that go together")
        else:
            command.add_argument("--out", type=Path, default="submission.zip", help="the zip (default submission.zip)")
    return parser.parse_args(argv)


def describe(report: Report) -> str:
    """A line for each problem and note, and the verdict."""
    many = f"{len(report.files)} file{'s' * (len(report.files) != 1)}"
    verdict = f"{many}: a grader would {'reject' if report.problems else 'accept'} this"
    return "\n".join([*report.problems, *(f"note: {note}" for note in report.notes), verdict])


def main(argv: list[str]) -> int:
    try:
        args = parse(argv)
        if args.command == "check":
            report = check(args.folder, args.data, args.complete)
            print(describe(report))
            return 1 if report.problems else 0
        report = check(args.folder, args.data)
        if report.problems:
            print(describe(report))
            return 1
        print(*pack(args.folder, args.out, args.data), args.out, sep="\n")
        return 0
    except KeyboardInterrupt:
        return 130
    except (InputError, OSError) as error:
        print(f"submission: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

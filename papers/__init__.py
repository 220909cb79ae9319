"""The tables and figures of five papers. Each folder is one paper; its README has a row for each table and figure."""

import sys

from minbert.errors import InputError
from minbert.report.requirements import check_libraries

try:
    check_libraries("scipy", "matplotlib")  # here, because each script imports matplotlib in its first lines
except InputError as error:
    print(f"papers: {error}", file=sys.stderr)
    raise SystemExit(2) from None

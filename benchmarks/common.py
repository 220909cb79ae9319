"""What the benchmarks share: the two flags nearly all of them have, and a run that keeps no folder."""

import argparse


def parser(description: str) -> argparse.ArgumentParser:
    """--model and --data, both required."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--model", required=True)
    made.add_argument("--data", required=True)
    return made


class Silent:
    """What training.fit wants of a run."""

    def log(self, row: dict) -> None:
        """Nothing is kept."""

"""Fine-tune one BERT, with a head for each task, on several tasks at once.

python multitask.py                                                   # sst5, quora and sts of the embedded sample
python multitask.py --option pal --sampling annealed --model MODEL --data DATA
python multitask.py --tasks rte mrpc stsb --task-weights stsb=0.5 --model MODEL --data DATA
python multitask.py --options                                         # lists the methods for --option
"""

import sys

import train
from minbert.training.settings import MultitaskSettings


def main(argv: list[str]) -> int:
    """Run the program. Returns the exit status."""
    return train.main(argv, "multitask.py", MultitaskSettings, __doc__)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

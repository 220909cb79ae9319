"""Fine-tune one BERT, with a head for each task, on several tasks at once.

    python multitask.py                                                   # sst5, quora and sts of the embedded sample
    python multitask.py --option pal --sampling annealed --model MODEL --data DATA
    python multitask.py --tasks rte mrpc stsb --task-weights stsb=0.5 --model MODEL --data DATA
    python multitask.py --options

The last lists what --option can be.
"""

import sys

import train
from minbert.settings import MultitaskSettings


def main(argv: list[str]) -> int:
    return train.main(argv, "multitask.py", MultitaskSettings, __doc__)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

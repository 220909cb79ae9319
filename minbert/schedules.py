"""Learning-rate schedules: the factor of the peak rate at a step.

Arguments: step = 0, 1, ... total-1; total = the number of steps in the run; warmup = the share of them in which the
rate rises.

BERT.  Devlin et al. 2019, arXiv:1810.04805v2:
  (§A.2)  warm-up, then a linear fall

Universal Language Model Fine-tuning for Text Classification.  Howard & Ruder 2018, arXiv:1801.06146:
  (3)  cut = ⌊T cut_frac⌋,   p rises as t/cut and then falls,   η_t = η_max (1 + p (ratio - 1)) / ratio
"""


def linear(step: int, total: int, warmup: float) -> float:
    """Rise from 0 to 1 in the first int(warmup·total) steps, then fall to 0 at `total`.

    With a warm-up of one step or more, step 0 has rate 0, as in transformers: the first update changes nothing. (The
    rate of BERT's own code jumps from 1 to 1-warmup after the warm-up. This one does not jump.)
    """
    rise = int(warmup * total)
    return step / rise if step < rise else max(0.0, (total - step) / max(1, total - rise))  # (§A.2)


def slanted(step: int, total: int, warmup: float) -> float:
    """A slanted triangle: rise from 1/32 to 1, then fall to 1/32 at `total`.  Howard & Ruder 2018.

    In their formula the rate reaches 1/32 after cut/warmup steps. That is `total` where warmup·total is an integer.
    Elsewhere their rate reaches 1/32 earlier and goes on falling, even below 0 (total 19, warmup 0.1). Here the fall
    always takes total-cut steps. With warmup = 0 their formula divides by 0, and here step 0 is the whole warm-up.
    """
    ratio, cut = 32, max(1, int(warmup * total))
    p = step / cut if step < cut else 1 - (step - cut) / max(1, total - cut)
    return (1 + max(0.0, p) * (ratio - 1)) / ratio  # (3)


def constant(step: int, total: int, warmup: float) -> float:
    """Always 1."""
    return 1.0


SCHEDULES = {"linear": linear, "slanted": slanted, "constant": constant}

"""Learning-rate schedules: factors of the peak rate, from (step 0, 1, ..., total number of steps, warm-up share)."""


def linear(step: int, total: int, warmup: float) -> float:
    """Up from 0 over the first int(warmup·total) steps, then down to 0 at `total`.

    Step 0 has rate 0, as in transformers: the first update changes nothing. (BERT's own code jumps from 1 to
    1-warmup after the warm-up; this one does not.)
    """
    rise = int(warmup * total)
    return step / rise if step < rise else max(0.0, (total - step) / max(1, total - rise))


def slanted(step: int, total: int, warmup: float) -> float:
    """Slanted triangle from 1/32 up to 1 and down to 1/32 again.  Howard & Ruder 2018, equation 3."""
    ratio, cut = 32, max(1, int(warmup * total))
    p = step / cut if step < cut else 1 - (step - cut) / max(1, total - cut)
    return (1 + max(0.0, p) * (ratio - 1)) / ratio


def constant(step: int, total: int, warmup: float) -> float:
    """Always 1."""
    return 1.0


SCHEDULES = {"linear": linear, "slanted": slanted, "constant": constant}

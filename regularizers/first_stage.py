"""The first stage of the methods with estimators of mutual information: fit them to the frozen pretrained model, and
measure the references.

Estimates of the same dependence differ by nats if marginals, batch size, dropout or examples differ, and an estimate is
higher on a batch that the network has just learned from. So a reference must be measured like the values that are
compared with it: the first stage sees the batches that the penalty will see, with dropout on, and follows them as
training does.

`passes` is a function: each call yields the states [B,V,D] of all batches of a task, with new dropout masks.
P pairs of variables, V variables, B batch, D width, q projected width.
"""

import itertools
import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from minbert.losses import to_float32
from regularizers.estimators import Estimators, mean_over_ranks

Passes = Callable[[], Iterable[Tensor]]

DRAWS, ENOUGH = 4, 20_000  # passes over the data, each with new dropout masks; fewer if ENOUGH states need fewer
# The fit takes at most STEPS steps, with an evaluation after each EVERY of them. PATIENCE evaluations without a gain
# end it. Then the networks follow REHEARSAL batches of the model that does not move.
STEPS, EVERY, PATIENCE, REHEARSAL = 2000, 100, 5, 100
FEWEST_EXAMPLES = 128  # to fit on
NEAR_THE_LIMIT = 0.8  # an estimate above this share of log B can hardly rise


@torch.no_grad()
def standardise(estimators: Estimators, passes: Passes) -> list[int]:
    """Measure mean and standard deviation of the states. Returns the sizes of the batches, [] if there are none."""
    sizes, total, squares = [], 0.0, 0.0
    for states in passes():
        h = to_float32(states)
        total, squares = total + h.sum(0).cpu().double(), squares + h.square().sum(0).cpu().double()
        sizes.append(len(h))
    if not sizes:
        return sizes
    count = sum(sizes)
    mean = total / count
    std = (squares / count - mean.square()).clamp(min=1e-10).sqrt()
    mean, std = mean_over_ranks([mean.to(estimators.mean), std.to(estimators.std)])
    estimators.mean.copy_(mean)
    estimators.std.copy_(std)
    return sizes


@torch.no_grad()
def draw(estimators: Estimators, passes: Passes) -> list[list[Tensor]]:
    """The projected states [B,V,q] of each batch, several times."""
    first = [estimators.project(states) for states in passes()]
    draws = min(DRAWS, ENOUGH // sum(len(z) for z in first))
    return [first, *([estimators.project(states) for states in passes()] for _ in range(draws - 1))]


def fit(estimators: Estimators, draws: list[list[Tensor]], optimizer: torch.optim.Optimizer) -> bool:
    """Ascend on nine of ten batches until the smoothed bound on the tenth stops rising.

    Each pair keeps its best parameters. Returns whether the bounds stopped rising before the limit of STEPS.
    """
    held_out = [z for batches in draws for z in batches[::10]]
    fitted = [z for batches in draws for k, z in enumerate(batches) if k % 10]
    smooth = best = measure(estimators, held_out)
    stale, best_state = 0, {name: value.clone() for name, value in estimators.state_dict().items()}
    for step in range(1, STEPS + 1):
        estimators.ascend(fitted[int(torch.randint(len(fitted), ()))], optimizer)
        if step % EVERY == 0:
            smooth = (smooth + measure(estimators, held_out)) / 2
            better = smooth > best
            for name in (*dict(estimators.named_parameters()), "log_ema"):
                best_state[name][better] = estimators.state_dict()[name][better]
            best = torch.where(better, smooth, best)
            stale = 0 if better.any() else stale + 1
            if stale == PATIENCE:
                break
    estimators.load_state_dict(best_state)
    return stale == PATIENCE


@torch.no_grad()
def rehearse(estimators: Estimators, passes: Passes, follow: Callable[[Estimators, Tensor], Tensor]) -> None:
    """Follow the frozen model over REHEARSAL batches as if it were training. The mean estimates are the references.

    follow(estimators, z) is what training does with the projected states z [B,V,q] of a batch. Each batch has
    new dropout masks. With the masks of the fit, which the networks know, estimates are .7 nats higher. The first half
    only lets the networks get used to a new batch in each step.
    """
    values = []
    while len(values) < REHEARSAL:
        for states in itertools.islice(passes(), REHEARSAL - len(values)):
            values.append(follow(estimators, estimators.project(states)))
    estimators.reference.copy_(mean_over_ranks([torch.stack(values[REHEARSAL // 2 :]).mean(0)])[0])


@torch.no_grad()
def measure(estimators: Estimators, batches: list[Tensor]) -> Tensor:
    """Mean bound over the batches [P]"""
    return mean_over_ranks([torch.stack([estimators.estimate(z) for z in batches]).mean(0)])[0]


def describe(estimators: Estimators, rows: int) -> str:
    """The references, the most that a batch of `rows` examples can show, and a warning if they are near it."""
    text = " ".join(f"{value:.2f}" for value in estimators.reference) + " nats"
    if estimators.marginals != "all_pairs":
        return text
    text += f"; {rows} examples show at most {math.log(rows):.2f}"
    if estimators.reference.max() > NEAR_THE_LIMIT * math.log(rows):
        text += ", which is too near: lower proj_dim, or take larger batches"
    return text

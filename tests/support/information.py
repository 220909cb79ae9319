"""Methods with estimators of mutual information, attached to tiny models."""

import torch
from torch import Tensor

from minbert.classifier import SentenceModel
from minbert.task import Batch, Task
from regularizers import OPTIONS, build
from regularizers.estimators import Estimators
from regularizers.mutual_information import InformationMethod
from support.factories import KINDS, make_batch, make_dataset, make_model

TASK = KINDS["two classes"]
INFORMATION = [name for name, option in OPTIONS.items() if issubclass(option, InformationMethod)]


def ready(
    option: str, *settings: str, rows: int = 10, task: Task = TASK, **config
) -> tuple[InformationMethod, SentenceModel, Batch]:
    """(method, model, batch) in float64 and train mode, without a first stage."""
    model = make_model(task, **config)
    method = build(option, [f"{option}.{setting}" for setting in settings]).parts[option]
    method.attach(model)
    return method.double(), model.double().train(), make_batch(task, rows=rows, tokens=12)


def prepared(
    option: str, *tasks: Task, size: int = 320, dropout: float = 0.1, seed: int = 0
) -> tuple[InformationMethod, SentenceModel, dict[str, list[Batch]]]:
    """(method, model, the batches of each task) after the first stage on the tiny model."""
    tasks = tasks or (TASK,)
    model = make_model(*tasks, hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout)
    method, batches = build(option), {}
    method.attach(model)
    for number, task in enumerate(tasks):
        dataset = make_dataset(task, size=size, seed=number)
        batches[task.name] = [dataset.collate(rows) for rows in dataset.shuffled(16, 0, 0)]
    model.bert.eval()  # as from_pretrained leaves it
    method.prepare_with_seed(model, lambda task: iter(batches[task]), seed)
    return method.parts[option], model, batches


def only_term(method: InformationMethod, model: SentenceModel, batch: Batch) -> Tensor:
    return method.penalty(model, batch, model(batch))["information"]


def wild(marginals="all_pairs", seed: int = 0, scale: float = 1.0) -> tuple[Estimators, torch.Tensor]:
    """Estimators of two pairs of three variables, not fitted, in float64; and states [9,3,5]."""
    torch.manual_seed(seed)
    estimators = Estimators([(0, 1), (0, 2)], 3, 5, 4, 6, marginals).double()
    estimators.mean.normal_()
    estimators.std.uniform_(0.5, 2.0)
    for p in estimators.parameters():
        p.mul_(scale)
    return estimators, torch.randn(9, 3, 5, dtype=torch.float64)

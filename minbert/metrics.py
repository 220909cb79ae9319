"""The metrics of GLUE, the majority baseline, and the test for a failed run. All in float64.

Shapes: predictions and labels [N], class numbers or numbers.
"""

import numpy as np


def accuracy(predictions, labels) -> float:
    return float(np.mean(predictions == labels))


def f1(predictions, labels) -> float:
    """F1 of class 1; 0 where nothing is predicted or labelled positive."""
    true_positive = np.sum((predictions == 1) & (labels == 1))
    positives = np.sum(predictions == 1) + np.sum(labels == 1)
    return float(2 * true_positive / positives) if positives else 0.0


def mcc(predictions, labels) -> float:
    """Matthews correlation of two classes: the Pearson correlation of two 0/1 variables; 0 where it is undefined."""
    return pearson(predictions == 1, labels == 1)


def pearson(predictions, labels) -> float:
    """Pearson correlation; 0 where one side is constant or not finite (papers that report NaN mean a failed run)."""
    x, y = np.asarray(predictions, np.float64), np.asarray(labels, np.float64)
    if not (np.isfinite(x).all() and np.isfinite(y).all()) or np.ptp(x) == 0 or np.ptp(y) == 0:
        return 0.0
    x, y = x - x.mean(), y - y.mean()
    return float(x @ y / np.sqrt((x @ x) * (y @ y)))


def spearman(predictions, labels) -> float:
    """Pearson correlation of the ranks; ties share their average rank. 0 where Pearson's is."""
    if not (np.isfinite(predictions).all() and np.isfinite(labels).all()):
        return 0.0
    return pearson(ranks(predictions), ranks(labels))


def ranks(values) -> np.ndarray:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)  # the highest rank of each distinct value
    return (last - (counts - 1) / 2)[inverse]


METRICS = {"accuracy": accuracy, "f1": f1, "mcc": mcc, "pearson": pearson, "spearman": spearman}
CORRELATIONS = {"mcc", "pearson", "spearman"}  # from -1 to 1, the others from 0 to 1


def evaluate(task, predictions, labels) -> dict[str, float]:
    """{name: value} for the task's metrics."""
    return {name: METRICS[name](predictions, labels) for name in task.metrics}


def score(task, values: dict[str, float]) -> float:
    """The one number of a task: GLUE's mean of its metrics (MRPC: accuracy and F1), of all its files (MNLI: accuracy
    and accuracy-mismatched)."""
    return float(np.mean([value for name, value in values.items() if name.partition("-")[0] in task.score]))


def majority(task, labels) -> dict[str, float]:
    """The task's metrics for always answering the most frequent class; for a constant number they are 0."""
    answer = np.bincount(labels.astype(int)).argmax() if task.labels else 0.0
    return evaluate(task, np.full(labels.shape, answer), labels)


def judge(task, logits: np.ndarray, labels: np.ndarray) -> dict:
    """logits [N,C], labels [N] -> score, metrics, the majority class's metrics, and why the run failed or ""."""
    predictions = predict(task, logits)
    values, baseline = evaluate(task, predictions, labels), majority(task, labels)
    return {
        "score": score(task, values),
        "metrics": values,
        "majority": baseline,
        "failure": failure(logits, predictions, score(task, values), score(task, baseline)),
    }


def average(tasks, results: dict[str, dict]) -> dict:
    """What several tasks' results {name: fields of metrics.json} come to, in the same fields, with the results in
    `tasks`. The score is the mean of theirs as on CS224N's leaderboard, where a correlation r counts as (r + 1)/2."""
    majority = {task.name: score(task, results[task.name]["majority"]) for task in tasks}
    own = {task.name: results[task.name]["score"] for task in tasks}
    shares = [(own[task.name] + 1) / 2 if set(task.score) <= CORRELATIONS else own[task.name] for task in tasks]
    why = "; ".join(f"{name}: {result['failure']}" for name, result in results.items() if result["failed"])
    return {
        "score": float(np.mean(shares)),
        "metrics": own,
        "majority": majority,
        "failed": bool(why),
        "failure": why,
        "tasks": results,
    }


def predict(task, logits: np.ndarray) -> np.ndarray:
    """Logits [N,C] -> class numbers [N], or the numbers [N] of a regression."""
    if task.one_logit:
        return (logits[:, 0] > 0).astype(int)
    return logits.argmax(-1) if task.labels else logits[:, 0]


def failure(logits: np.ndarray, predictions: np.ndarray, own: float, baseline: float) -> str:
    """Why the run counts as failed, or "". Mosbach et al. 2021, section 3: no better than the majority class."""
    if not np.isfinite(logits).all():
        return "an output is not a finite number"
    if np.ptp(predictions) == 0:
        return "every example gets the same prediction"
    if own <= baseline:
        return f"score {own:.4f} is not above the majority baseline's {baseline:.4f}"
    return ""

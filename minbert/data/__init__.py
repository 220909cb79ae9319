"""Data: the table of tasks, readers of the official files, datasets, the sampling of batches, prediction files."""

from minbert.data.dataset import Dataset
from minbert.data.readers import Example, Examples, read_examples, subset
from minbert.data.sampling import BatchSampler, TaskBatchSampler
from minbert.data.task_file import choose_tasks
from minbert.data.tasks import TASKS

__all__ = [
    "TASKS",
    "BatchSampler",
    "Dataset",
    "Example",
    "Examples",
    "TaskBatchSampler",
    "choose_tasks",
    "read_examples",
    "subset",
]

"""Training: the loop, a whole run, its settings, device, log, checkpoints and folder."""

from minbert.training.arguments import parse_settings
from minbert.training.checkpoint import Checkpoints
from minbert.training.evaluation import Evaluator, predict_logits
from minbert.training.inputs import Inputs
from minbert.training.loop import Objective, fit
from minbert.training.run import fine_tune
from minbert.training.runtime import Runtime, setup
from minbert.training.settings import MultitaskSettings, Settings

__all__ = [
    "Checkpoints",
    "Evaluator",
    "Inputs",
    "MultitaskSettings",
    "Objective",
    "Runtime",
    "Settings",
    "fine_tune",
    "fit",
    "parse_settings",
    "predict_logits",
    "setup",
]

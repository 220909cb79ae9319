"""Prediction files: check what a grader would reject, and pack the zip for the GLUE leaderboard."""

from minbert.submission.check import Report, check_predictions
from minbert.submission.pack import pack_predictions

__all__ = ["Report", "check_predictions", "pack_predictions"]

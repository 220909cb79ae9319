"""Prediction files: check what a grader would reject, and pack them."""

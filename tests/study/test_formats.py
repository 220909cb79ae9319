"""study/formats.py: numbers and settings as a report shows them."""

import pytest

from minbert.report.formats import format_duration
from study.formats import format_p_equation, format_points, format_setting


@pytest.mark.parametrize(
    ("value", "text"),
    [(5e-5, "5e-5"), (0.00015, "1.5e-4"), (0.1, "0.1"), (0.01, "0.01"), (3, "3"), (2.0, "2"), (0.0, "0"),
     (True, "true"), (None, "–"), ([0.9, 0.999], "0.9 0.999"), (["a", 1e-6], "a 1e-6"), ((), "–"),
     ("x", "x"), (-1e-3, "-1e-3")],
)  # fmt: skip
def test_settings_are_written_as_a_user_would(value, text):
    assert format_setting(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.72234, "72.23"), (-0.005, "−0.50"), (-0.00001, "0.00"), (None, "–"), (1, "100.00")]
)
def test_scores_are_points(value, text):
    assert format_points(value) == text


@pytest.mark.parametrize(
    ("p", "text"), [(0.0104, "p = .010"), (0.00099, "p < .001"), (1.0, "p = 1.000"), (0.05, "p = .050")]
)
def test_p_values(p, text):
    assert format_p_equation(p) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(1, "1 second"), (41.2, "41 seconds"), (60, "0:01 (hours:minutes)"), (36_029, "10:00 (hours:minutes)")],
)
def test_durations(seconds, text):
    assert format_duration(seconds) == text

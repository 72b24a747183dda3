"""The comparison says 'clear' only when it is."""

import pytest

from training.compare import summarize


def test_a_clear_gain_beats_every_run_of_the_other_side() -> None:
    body = summarize([0.80, 0.82, 0.81], [0.70, 0.72, 0.71])
    assert body["gain"] == pytest.approx(0.10)
    assert body["standard_error"] == pytest.approx((2 * 0.01**2 / 3) ** 0.5)
    assert body["clear"]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ([0.80, 0.60, 0.90], [0.70, 0.55, 0.60]),  # overlapping runs
        ([0.70, 0.72, 0.71], [0.80, 0.82, 0.81]),  # a loss
        ([0.50, 0.50], [0.50, 0.50]),  # nothing
    ],
)
def test_overlap_loss_and_equality_are_not_clear(ours: list[float], theirs: list[float]) -> None:
    assert not summarize(ours, theirs)["clear"]

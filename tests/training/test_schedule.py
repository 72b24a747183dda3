import pytest

from training.schedule import Constant, Linear, factor_at


def curve(steps: int, warmup_steps: int, decay: Linear | Constant) -> list[float]:
    return [factor_at(s, steps=steps, warmup_steps=warmup_steps, decay=decay) for s in range(steps)]


def test_warm_up_rises_to_the_peak_and_the_decay_falls_evenly():
    assert curve(8, 3, Linear()) == pytest.approx([0.25, 0.5, 0.75, 1.0, 0.8, 0.6, 0.4, 0.2])


def test_no_step_is_taken_at_rate_zero():
    for steps in (1, 2, 7, 100):
        for warmup_steps in (0, 1, steps - 1):
            if warmup_steps < steps:
                assert min(curve(steps, warmup_steps, Linear())) > 0


def test_a_floor_and_a_plateau():
    assert curve(4, 0, Linear(final_share=0.5)) == pytest.approx([1.0, 0.875, 0.75, 0.625])
    assert curve(3, 1, Constant()) == [0.5, 1.0, 1.0]


def test_a_share_outside_0_to_1_is_refused():
    with pytest.raises(
        ValueError, match=r"final_share 1.5: it is a share of the peak; give a value from 0 to 1"
    ):
        Linear(final_share=1.5)

import pytest

from training.schedule import (
    Constant,
    Cosine,
    Decay,
    InverseSquareRoot,
    Linear,
    OneMinusSquareRoot,
    Polynomial,
    WarmupStableDecay,
    factor_at,
)

DECAYS = [
    Linear(),
    Constant(),
    Cosine(),
    Polynomial(),
    InverseSquareRoot(),
    WarmupStableDecay(),
    WarmupStableDecay(cooldown_share=0.5, cooldown=Cosine()),
    WarmupStableDecay(cooldown_share=1.0, cooldown=Linear()),
]


def curve(steps: int, warmup_steps: int, decay: Decay) -> list[float]:
    return [factor_at(s, steps=steps, warmup_steps=warmup_steps, decay=decay) for s in range(steps)]


def test_warm_up_rises_to_the_peak_and_the_decay_falls_evenly():
    assert curve(8, 3, Linear()) == pytest.approx([0.25, 0.5, 0.75, 1.0, 0.8, 0.6, 0.4, 0.2])


@pytest.mark.parametrize("decay", DECAYS, ids=str)
def test_no_step_is_taken_at_rate_zero_and_none_above_the_peak(decay):
    for steps in (1, 2, 7, 100):
        for warmup_steps in (0, 1, steps - 1):
            if warmup_steps < steps:
                rates = curve(steps, warmup_steps, decay)
                assert 0 < min(rates) <= max(rates) <= 1
                assert rates[warmup_steps:] == sorted(rates[warmup_steps:], reverse=True)


def test_a_floor_and_a_plateau():
    assert curve(4, 0, Linear(final_share=0.5)) == pytest.approx([1.0, 0.875, 0.75, 0.625])
    assert curve(3, 1, Constant()) == [0.5, 1.0, 1.0]


def test_a_cosine_is_half_way_down_in_the_middle_and_slow_at_its_ends():
    rates = curve(8, 0, Cosine())
    assert rates[4] == pytest.approx(0.5)
    assert rates[0] - rates[1] < rates[3] - rates[4]
    assert curve(8, 0, Cosine(final_share=0.2))[4] == pytest.approx(0.6)


def test_a_polynomial_of_power_one_is_linear():
    assert curve(9, 2, Polynomial(power=1.0, final_share=0.1)) == pytest.approx(
        curve(9, 2, Linear(final_share=0.1))
    )
    assert curve(4, 0, Polynomial(power=2.0)) == pytest.approx([1.0, 0.5625, 0.25, 0.0625])


def test_the_inverse_square_root_meets_the_warm_up_at_the_peak_and_halves_when_the_steps_are_four_times_as_many():
    rates = curve(400, 9, InverseSquareRoot())
    assert rates[8:10] == pytest.approx([0.9, 1.0])
    assert rates[39] == pytest.approx(0.5)
    assert curve(40, 9, InverseSquareRoot()) == rates[:40]  # it does not know the end


def test_a_plateau_lasts_until_the_cooldown():
    rates = curve(20, 2, WarmupStableDecay(cooldown_share=0.2))
    assert rates[2:16] == [1.0] * 14
    assert rates[16:] == pytest.approx([1 - (k / 5) ** 0.5 for k in (1, 2, 3, 4)])
    longer = curve(40, 2, WarmupStableDecay(cooldown_share=0.2))
    assert longer[:16] == rates[:16]  # a checkpoint from the plateau belongs to both
    assert curve(20, 2, WarmupStableDecay(cooldown_share=0.2, cooldown=Linear()))[16:] == pytest.approx(
        [0.8, 0.6, 0.4, 0.2]
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Cosine(final_share=-0.1), "final_share -0.1: it is a share of the peak"),
        (lambda: WarmupStableDecay(cooldown_share=2.0), "cooldown_share 2.0: it is a share of all steps"),
        (lambda: OneMinusSquareRoot(final_share=3.0), "final_share 3.0: it is a share of the peak"),
        (lambda: Polynomial(power=0.0), "power 0.0: the rate would not fall; give a positive number"),
    ],
)
def test_bad_settings_are_refused_in_a_sentence(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_share_outside_0_to_1_is_refused():
    with pytest.raises(
        ValueError, match=r"final_share 1.5: it is a share of the peak; give a value from 0 to 1"
    ):
        Linear(final_share=1.5)

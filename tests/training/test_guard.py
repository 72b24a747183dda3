import math

import numpy as np
import pytest

from training.guard import Guard
from training.history import History

LOSSES = 3 + 0.1 * np.random.default_rng(0).normal(size=20)


def history(losses=LOSSES, refused=()):
    past = History()
    for step, loss in enumerate(losses):
        past.append({"loss": loss, "gradient_norm": 1.0, "skipped": float(step in refused)})
    return past


def figures(loss, norm=1.0):
    return {"loss": loss, "gradient_norm": norm}


GUARD = Guard(window_steps=20, patience_steps=3)


def test_a_loss_is_judged_by_mean_and_spread_of_the_window_before_it():
    edge = LOSSES.mean() + 6 * LOSSES.std()
    assert GUARD.objection(figures(edge - 1e-6), history()) is None
    assert (
        GUARD.objection(figures(edge + 1e-6), history())
        == f"loss {edge:.4g}, 6.0 standard deviations above {LOSSES.mean():.4g}"
    )
    assert GUARD.objection(figures(-1e9), history()) is None  # a fall is welcome
    older = history([1e6, *LOSSES])  # outside the window
    assert GUARD.objection(figures(edge + 1e-6), older) is not None


def test_refused_steps_are_not_in_the_window():
    spiked = history([*LOSSES, 1e9, math.nan], refused=(20, 21))
    assert GUARD.objection(figures(LOSSES.mean() + 7 * LOSSES.std()), spiked) is not None


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_is_refused_from_the_first_step_on(bad):
    assert GUARD.objection(figures(bad), History()) == f"loss {bad}"
    assert GUARD.objection(figures(1.0, bad), History()) == f"gradient_norm {bad}"
    assert Guard(sigmas=None).objection(figures(bad), history()) == f"loss {bad}"


def test_before_the_window_is_full_and_without_sigmas_every_finite_loss_is_taken():
    assert GUARD.objection(figures(1e9), history(LOSSES[:19])) is None
    assert Guard(sigmas=None, window_steps=20).objection(figures(1e9), history()) is None
    assert GUARD.objection(figures(2.0), history([1.0] * 20)) is None  # no spread, nothing to measure by


def test_trouble_is_a_row_of_refusals():
    assert not GUARD.troubled(history(refused=(17, 19)))
    assert not GUARD.troubled(history(refused=(18, 19)))
    assert GUARD.troubled(history(refused=(17, 18, 19)))
    assert not GUARD.troubled(History())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sigmas": 0.0}, "sigmas 0.0: it must be positive; use None to accept every finite loss"),
        ({"window_steps": 1}, "window_steps 1: a spread needs at least 2 steps"),
        ({"patience_steps": 0}, "patience_steps 0: it is a count; give 1 or more"),
    ],
)
def test_bad_settings_are_refused_in_a_sentence(settings, message):
    with pytest.raises(ValueError, match=message):
        Guard(**settings)

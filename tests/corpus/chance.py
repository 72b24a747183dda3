"""Is a count what chance allows? Four standard deviations: with fixed seeds a test is right once and then for
ever.
"""

import numpy as np


def plausible_share(hits: int, trials: int, share: float) -> bool:
    """Whether `hits` of `trials` fits a binomial with this share."""
    return abs(hits - trials * share) <= 4 * np.sqrt(trials * share * (1 - share)) + 1e-9


def plausible_counts(observed, expected) -> bool:
    """Chi-square of counts against expected counts (scaled to the same sum), within 4 sigma of its mean."""
    observed, expected = np.asarray(observed, float), np.asarray(expected, float)
    expected = expected * observed.sum() / expected.sum()
    assert expected.min() >= 5, "bins too small for a chi-square"
    freedom = len(observed) - 1
    return abs(((observed - expected) ** 2 / expected).sum() - freedom) <= 4 * np.sqrt(2 * freedom)


def same_distribution(a, b, bins: int = 12) -> bool:
    """Chi-square of two independent samples of numbers, in bins of about equal share."""
    edges = np.unique(np.quantile(np.concatenate([a, b]), np.linspace(0, 1, bins + 1)))
    edges[-1] += 1
    count_a, count_b = np.histogram(a, edges)[0], np.histogram(b, edges)[0]
    both = count_a + count_b
    share = len(a) / (len(a) + len(b))
    freedom = len(both) - 1
    chi = ((count_a - both * share) ** 2 / (both * share * (1 - share))).sum()
    return chi <= freedom + 4 * np.sqrt(2 * freedom)

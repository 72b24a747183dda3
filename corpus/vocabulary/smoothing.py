"""Languages smoothed: word counts as if small languages had more text (mBERT's exponent 0.7).

A language with the share p of all words is given the share q = p**s / (sum of p**s over languages). So each of its
counts is multiplied by q / p; the total stays what it was. Exactly:

    factor(language) = round_half_even(2**20 * q / p), in decimal arithmetic of 50 digits
    count(word)      = floor((sum over languages of count * factor + 2**19) / 2**20)

A word whose smoothed count is 0 is left out. Nothing here depends on a machine's floating point.
"""

from decimal import Context, Decimal, localcontext
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from corpus.vocabulary.counts import SCHEMA, exact_sum

SHIFT: Final = 20
_DIGITS: Final = 50


def check_exponent(smoothing: float | None) -> None:
    """Raise ValueError unless it is None (no smoothing) or an exponent."""
    if smoothing is not None and not 0 <= smoothing <= 1:
        raise ValueError(
            f"smoothing={smoothing} must be between 0 (all languages alike) and 1 (as they are); mBERT used 0.7"
        )


def language_factors(totals: dict[str, int], smoothing: float) -> dict[str, int]:
    """Words of each language -> the factor of its counts, in units of 2**-SHIFT."""
    totals = {language: total for language, total in sorted(totals.items()) if total}
    with localcontext(Context(prec=_DIGITS)):
        everything = Decimal(sum(totals.values()))
        exponent = Decimal(repr(float(smoothing)))
        shares = {language: Decimal(total) / everything for language, total in totals.items()}
        raised = {language: share**exponent for language, share in shares.items()}
        norm = sum(raised.values(), Decimal(0))
        return {
            language: int((raised[language] / norm / share * (1 << SHIFT)).to_integral_value())
            for language, share in shares.items()
        }


def smooth(words: pa.Table, smoothing: float) -> pa.Table:
    """Counts by language -> SCHEMA, smoothed. Raises ValueError if the arithmetic might not fit 64 bits."""
    totals = {
        language: exact_sum(words.filter(pc.field("language") == language)["count"])
        for language in pc.unique(words["language"]).to_pylist()
    }
    factors = language_factors(totals, smoothing)
    largest = sum(totals[language] * factor for language, factor in factors.items())
    if largest + (1 << SHIFT) >= 1 << 64:
        raise ValueError(
            f"{sum(totals.values())} words are too many to smooth in 64 bits; use at most 2**43, a sample of the text"
        )
    names = list(factors)
    index = pc.index_in(words["language"], pa.array(names, pa.string())).to_numpy()
    factor = np.array([factors[name] for name in names], np.uint64)
    scaled = words["count"].to_numpy() * factor[index]
    table = pa.table([words["word"], pa.array(scaled, pa.uint64())], schema=SCHEMA)
    summed = table.group_by("word").aggregate([("count", "sum")]).sort_by("word")
    rounded = (summed["count_sum"].to_numpy() + np.uint64(1 << (SHIFT - 1))) >> np.uint64(SHIFT)
    result = pa.table([summed["word"], pa.array(rounded, pa.uint64())], schema=SCHEMA)
    return result.filter(pc.field("count") > 0).combine_chunks()

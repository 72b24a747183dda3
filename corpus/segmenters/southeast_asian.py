"""Thai, Lao, Khmer and Burmese words by ICU's dictionaries, which follow the script and need no language."""

import pyarrow as pa

from corpus.segmenters.lines import Int64s, starts_by_lines


def southeast_asian_words(runs: pa.LargeStringArray) -> Int64s:
    """Byte offsets at which words of runs of these scripts begin."""
    from icu4py.breakers import WordBreaker

    def cut(lines: str) -> list[str]:
        return list(WordBreaker(lines, "en"))

    return starts_by_lines(runs, cut)

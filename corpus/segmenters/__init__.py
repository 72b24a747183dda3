"""Word segmenters for scripts without spaces, one file per library; `corpus.words` decides which text each one gets.

Each file has one function (runs (n,) large_string) -> int64 byte offsets, through the concatenated UTF-8 of the runs, at
which a word begins; the first byte of each run is one of them. A run's words depend on the run alone. The libraries are
imported in the functions (Chinese 0.1 s, Japanese and ICU some milliseconds) and their dictionaries come in their wheels.
"""

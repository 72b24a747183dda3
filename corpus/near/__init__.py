"""Near duplicates: MinHash proposes pairs, the full text decides."""

"""Vocabularies beside WordPiece, and what all of them share: columns in, token ids out."""

"""WordPiece: count words, train a vocabulary, encode text. The only home of `tokenizers`."""

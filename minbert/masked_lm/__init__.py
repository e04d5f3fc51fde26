"""Masked-LM training: BERT goes on guessing hidden words."""

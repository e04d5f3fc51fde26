"""Other words for the same text: changed copies for consistency training."""

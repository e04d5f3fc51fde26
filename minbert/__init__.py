"""The workshop behind the root's files: what they run on, and what runs them."""

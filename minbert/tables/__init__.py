"""Tables of experiments: their rows, the sweep that runs them, the report that shows them."""

"""A run: its data, its loop, its folder, its results."""

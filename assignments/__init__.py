"""Exercise sheets made from the one tree, and the grader of what comes back."""

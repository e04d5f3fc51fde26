"""What happens inside one forward pass: every tensor on its way, and the line of bert.py that made it."""

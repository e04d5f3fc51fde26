"""What is trained and how: schedules, terms of the loss, regularizers, gradients. Knows no files and no processes."""

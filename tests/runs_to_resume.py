"""What the tests of resumed and damaged runs share: their flags, and what a folder holds."""

FLAGS = ("--option", "finetune", "--lr", "1e-3", "--lr_schedule", "linear", "--warmup", 0.1, "--weight_decay", 0.01)
EVERY_STEP = ("--checkpoint_minutes", 1e-9, "--keep_state")


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

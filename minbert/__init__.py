"""The workshop behind the root's files: what they run on, and what runs them. `from minbert import load` asks a run."""


def __getattr__(name):
    """`load` is that of multitask_classifier.py: looked up late, for it needs torch, and what is in here must not."""
    if name == "load":
        import multitask_classifier

        return multitask_classifier.load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

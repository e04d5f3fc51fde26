"""Which tests belong to which task of a student's: `pytest -m attention` runs those of attention that are quick.

TASKS: marker -> how its tests' names begin, below tests/. The order is from part to whole, and is the order in which
the tests run, before all others: so the first failure is the one that is nearest to the cause.
"""

TASKS = {
    "embedding": ("test_bert.py::test_embedding",),
    "attention": (
        "test_bert.py::test_attention",
        "test_bert.py::test_self_attention",
        "test_bert.py::test_fused_attention",
        "layers/test_packing.py",
    ),
    "layer": ("test_bert.py::test_layer", "layers/test_dropout.py"),
    "model": ("test_bert.py", "test_base_bert.py", "test_weights.py"),
    "adamw": ("test_optimizer.py", "test_layer_decay.py"),
    "heads": ("layers/test_pairs.py", "layers/test_heads.py", "layers/test_class_heads.py", "layers/test_prior.py"),
    "labels": ("test_labeling.py", "methods/test_shared_head.py"),
    "tsa_uda": ("methods/test_semi_supervised.py",),
    "teacher": (
        "methods/test_semi_supervised.py::test_known_mistakes[mean_teacher_decay]",
        "methods/test_semi_supervised.py::test_known_mistakes[bregman_decay]",
        "methods/test_semi_supervised.py::test_known_mistakes[ema_update]",
        "methods/test_ema_teacher.py",
    ),
    "masked_lm": ("test_bert.py::test_masked_lm", "masked_lm/"),
    "schedules": ("methods/test_schedules.py", "test_learning_rates.py", "methods/test_gradient_surgery.py"),
}
PREFIXES = {prefix: task for task, prefixes in TASKS.items() for prefix in prefixes}


def prefix_of(name):
    """The longest of the PREFIXES that fits a test's name below tests/, or None."""
    return max((prefix for prefix in PREFIXES if name.startswith(prefix)), key=len, default=None)

"""What Karpov and Burtsev's paper prints: the vectors of equations 3 to 20, Appendix A, the averages of Table 1."""

H, T = 1 / 2, 1 / 3  # a half, a third
# One prediction of each plain model, its columns in the order of datasets.TASKS, not in that of the vectors.
PREDICTIONS = {
    "rte": (("entailment", "not_entailment"), [[0.3, 0.7]]),
    "mnli": (("entailment", "contradiction", "neutral"), [[0.5, 0.125, 0.375]]),
    "qqp": (("not_duplicate", "duplicate"), [[0.9, 0.1]]),
    "sst2": (("negative", "positive"), [[0.2, 0.8]]),
    "cfimdb": (("negative", "positive"), [[0.6, 0.4]]),
}

# equation number, scheme, task, label, the vector; no task: the "default" vector
# fmt: off
PRINTED = [
    (3, "independent", None, None, [0, 0, 0, 0, 0, 0, 0, 0, 0]),
    (4, "independent", "rte", "entailment", [1, 0, 0, 0, 0, 0, 0, 0, 0]),
    (5, "soft_independent", None, None, [H, H, T, T, T, H, H, H, H]),
    (6, "soft_independent", "mnli", "entailment", [H, H, 1, 0, 0, H, H, H, H]),
    (7, "augmented_independent", None, None, [0.3, 0.7, 0.5, 0.125, 0.375, 0.1, 0.9, 0.8, 0.2]),
    (8, "augmented_independent", "qqp", "duplicate", [0.3, 0.7, 0.5, 0.125, 0.375, 1, 0, 0.8, 0.2]),
    (9, "soft_probability", None, None, [T, T, T, H, H]),
    (10, "soft_probability", "sst2", "positive", [T, T, T, 1, 0]),
    (11, "soft_probability", "mnli", "contradiction", [0, 1, 0, H, H]),
    (12, "soft_probability", "rte", "entailment", [1, 0, 0, H, H]),
    (12, "soft_probability", "qqp", "duplicate", [1, 0, 0, H, H]),
    (12, "soft_probability", "mnli", "entailment", [1, 0, 0, H, H]),
    (13, "soft_probability", "rte", "not_entailment", [0, H, H, H, H]),
    (13, "soft_probability", "qqp", "not_duplicate", [0, H, H, H, H]),
    (14, "soft_predicted", None, None, [0.5, 0.125, 0.375, 0.8, 0.2]),
    (15, "soft_predicted", "mnli", "neutral", [0, 0, 1, 0.8, 0.2]),
    (16, "soft_predicted", "rte", "entailment", [1, 0, 0, 0.8, 0.2]),
    (16, "soft_predicted", "mnli", "entailment", [1, 0, 0, 0.8, 0.2]),
    (16, "soft_predicted", "qqp", "duplicate", [1, 0, 0, 0.8, 0.2]),
    (17, "soft_predicted", "rte", "not_entailment", [0, 0.25, 0.75, 0.8, 0.2]),
    (17, "soft_predicted", "qqp", "not_duplicate", [0, 0.25, 0.75, 0.8, 0.2]),
    (18, "hard_predicted", None, None, [1, 0, 0, 1, 0]),
    (19, "hard_predicted", "rte", "entailment", [1, 0, 0, 1, 0]),
    (19, "hard_predicted", "qqp", "duplicate", [1, 0, 0, 1, 0]),
    (20, "hard_predicted", "rte", "not_entailment", [0, 0, 1, 1, 0]),
    (20, "hard_predicted", "qqp", "not_duplicate", [0, 0, 1, 1, 0]),
]
# "Other equations can be written in an analogous way"
ANALOGOUS = [
    (4, "independent", "sst2", "negative", [0, 0, 0, 0, 0, 0, 0, 0, 1]),
    (4, "independent", "qqp", "not_duplicate", [0, 0, 0, 0, 0, 0, 1, 0, 0]),
    (4, "independent_frozen", "rte", "not_entailment", [0, 1, 0, 0, 0, 0, 0, 0, 0]),
    (6, "soft_independent_frozen", "sst2", "positive", [H, H, T, T, T, H, H, 1, 0]),
    (8, "augmented_independent", "sst2", "negative", [0.3, 0.7, 0.5, 0.125, 0.375, 0.1, 0.9, 0, 1]),
    (15, "soft_predicted", "sst2", "negative", [0.5, 0.125, 0.375, 0, 1]),
    (19, "hard_predicted", "sst2", "negative", [1, 0, 0, 0, 1]),
    (19, "hard_predicted", "mnli", "contradiction", [0, 1, 0, 1, 0]),
]
# fmt: on

# Appendix A, accuracies on the validation sets in %: task -> row -> attempts 1 to 4, at learning rates 2e-5, 3e-5,
# 4e-5 and 5e-5 (section 6)
APPENDIX_A = {
    "rte": {
        "plain": (64.6, 57.8, 63.2, 62.7),
        "independent": (66.8, 68.2, 66.4, 74.0),
        "soft_independent": (71.1, 69.3, 65.0, 66.8),
        "augmented_independent": (67.5, 67.1, 64.6, 65.3),
        "soft_probability": (76.9, 76.9, 71.8, 71.1),
        "soft_predicted": (72.6, 74.4, 70.8, 73.3),
        "hard_predicted": (73.3, 71.8, 72.9, 72.5),
        "independent_frozen": (70.0, 72.9, 70.8, 69.3),
        "soft_independent_frozen": (71.8, 66.4, 65.0, 67.9),
    },
    "sst2": {
        "plain": (92.7, 92.1, 91.7, 89.3),
        "independent": (91.6, 91.1, 90.7, 90.4),
        "soft_independent": (90.8, 91.4, 91.5, 89.5),
        "augmented_independent": (92.3, 91.5, 91.5, 91.7),
        "soft_probability": (92.3, 91.6, 90.5, 90.4),
        "soft_predicted": (92.1, 91.9, 91.2, 90.5),
        "hard_predicted": (92.4, 91.4, 90.5, 90.8),
        "independent_frozen": (89.9, 90.6, 90.8, 91.9),
        "soft_independent_frozen": (91.6, 90.9, 89.1, 90.5),
    },
    "qqp": {
        "plain": (90.8, 90.5, 87.1, 89.8),
        "independent": (87.9, 89.1, 87.5, 90.4),
        "soft_independent": (90.4, 89.8, 86.0, 89.1),
        "augmented_independent": (90.3, 89.6, 90.4, 90.3),
        "soft_probability": (90.5, 90.3, 90.0, 89.6),
        "soft_predicted": (90.0, 90.4, 90.1, 90.0),
        "hard_predicted": (90.1, 89.9, 89.3, 89.9),
        "independent_frozen": (90.1, 90.5, 90.5, 89.6),
        "soft_independent_frozen": (90.2, 90.5, 89.9, 89.1),
    },
    "mnli": {
        "plain": (76.7, 77.3, 76.4, 72.7),
        "independent": (73.8, 75.0, 72.6, 76.3),
        "soft_independent": (76.5, 75.8, 72.62, 74.5),
        "augmented_independent": (75.5, 75.1, 75.3, 75.0),
        "soft_probability": (77.0, 76.4, 75.4, 75.3),
        "soft_predicted": (75.9, 76.0, 76.0, 75.5),
        "hard_predicted": (75.9, 75.4, 75.0, 74.5),
        "independent_frozen": (76.1, 76.0, 76.3, 73.6),
        "soft_independent_frozen": (76.8, 76.2, 75.0, 73.5),
    },
}

# Table 1's column "Average by 4 tasks" (its other columns are the average of three runs, which the appendix has not)
TABLE_1_AVERAGE = {
    "plain": 81.3,
    "independent": 82.8,
    "soft_independent": 82.2,
    "augmented_independent": 81.4,
    "soft_probability": 84.2,
    "soft_predicted": 83.2,
    "hard_predicted": 82.9,
    "independent_frozen": 82.5,
    "soft_independent_frozen": 82.6,
}

"""The vectors of one RTE example, "not_entailment", in all schemes."""

import sys

import labeling

PREDICTIONS = {  # what plain models might say of it
    "rte": (["entailment", "not_entailment"], [[0.3, 0.7]]),
    "mnli": (["entailment", "contradiction", "neutral"], [[0.2, 0.1, 0.7]]),
    "qqp": (["not_duplicate", "duplicate"], [[0.9, 0.1]]),
    "sst2": (["negative", "positive"], [[0.4, 0.6]]),
}


def main():
    for name, scheme in labeling.SCHEMES.items():
        vector = labeling.targets(name, "rte", ["not_entailment"], PREDICTIONS)[0]
        print(f"\n{scheme.title}\n  " + " ".join(f"{each:>7}" for each in scheme.merging.classes))
        print("  " + " ".join(f"{value:7.3f}" for value in vector))


if __name__ == "__main__":
    try:
        main()
    except NotImplementedError as error:
        sys.exit(str(error))

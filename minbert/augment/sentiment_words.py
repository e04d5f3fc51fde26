"""Words that decide a sentiment: negations, and words that praise or blame. A copy that changes them is no copy.

sentiment_words.txt is a hand-made list of common English words, not a lexicon: it keeps "not good" from becoming "seat
good", no more.
"""

from pathlib import Path

LINES = Path(__file__).with_suffix(".txt").read_text(encoding="utf-8").splitlines()
SENTIMENT = frozenset(word for line in LINES if not line.startswith("#") for word in line.split())


def decides(word):
    """Whether a word decides a sentiment: one of the list, or a negation that ends in n't. Whatever its case, and
    whatever punctuation stands around it."""
    word = word.lower().replace("’", "'").strip(".,;:!?\"()[]`*-'")
    return word in SENTIMENT or word.endswith("n't")


def none(word):
    """No word is kept."""
    return False


KEPT = {"sentiment": decides, "none": none}  # --keep_words

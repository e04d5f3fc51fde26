"""Copies of texts by changing words, which needs no model and no network.

TfIdf  words that say little are replaced: Xie et al. 2020, "Unsupervised Data Augmentation for Consistency Training"
Eda    words are deleted and swapped: Wei and Zou 2019, "EDA: Easy Data Augmentation Techniques for Boosting
       Performance on Text Classification Tasks"

Each is made of (all texts of the file, p), p being the share of words to change, and then changes one text. `keeps`
tells of a word whether it must stay: sentiment_words.py.
Shapes: n words of a text, V words of the vocabulary.
"""

import math
import re
from collections import Counter

import numpy as np

from minbert.augment.sentiment_words import none


class TfIdf:
    """Word replacement by TF-IDF (Xie et al. 2020, appendix). Each text of the file counts as one document.

    A word x_i of a text is replaced with probability min(p (C - TFIDF(x_i)) / Z, 1), where TFIDF(x) = TF(x) IDF(x),
    IDF(x) = log(documents / documents with x), C is the largest TFIDF of the text and Z = sum_i (C - TFIDF(x_i)) / n,
    so that p is the share of words replaced as long as no probability meets 1, and the most telling word always stays.
    Its place is taken by a word w of the file, drawn with probability (max S - S(w)) / sum_w' (max S - S(w')), where
    S(w) = freq(w) IDF(w): the words that carry the file's content are not drawn.

    Where the words of a text all tell as much (a single word, for one) Z is 0 and each is replaced with probability p.
    Departures from the authors' code: words are runs of letters and digits, compared and drawn in lower case, and
    punctuation and spaces stay as they are; what `keeps` names is not replaced, so that fewer than p are.
    """

    WORD = re.compile(r"\w+(?:['’\-]\w+)*")

    default = 0.3  # a choice of ours: most texts here are short

    def __init__(self, texts, p, keeps=none):
        self.p, self.keeps = p, keeps
        count, documents = Counter(), Counter()
        for text in texts:
            words = self.words(text)
            count.update(words)
            documents.update(set(words))
        self.idf = {word: math.log(len(texts) / documents[word]) for word in documents}
        self.vocabulary = sorted(count)  # [V]
        score = np.array([count[word] * self.idf[word] for word in self.vocabulary])  # S [V]
        room = score.max(initial=0.0) - score
        self.drawn_up_to = np.cumsum(room if room.any() else np.ones_like(room))  # [V], unnormalised

    def words(self, text):
        return [word.lower() for word in self.WORD.findall(text)]

    def replace_probabilities(self, words):
        """[n], for the n words of one text."""
        count = Counter(words)
        tf_idf = np.array([count[word] * self.idf[word] for word in words])  # TF without its 1/n, which C and Z share
        room = tf_idf.max(initial=0.0) - tf_idf  # C - TFIDF
        if not room.any():
            return np.full(len(words), self.p)
        return np.minimum(self.p * room / room.mean(), 1.0)

    def __call__(self, text, random):
        """text -> text; random: a numpy RandomState."""
        words = self.words(text)
        replaced = random.random_sample(len(words)) < self.replace_probabilities(words)  # [n]
        replaced &= np.array([not self.keeps(word) for word in words], dtype=bool)
        drawn = random.random_sample(len(words)) * self.drawn_up_to[-1:]  # [n]
        places = np.searchsorted(self.drawn_up_to, drawn, side="right")
        news = (self.vocabulary[place] if yes else None for yes, place in zip(replaced, places, strict=True))
        return self.WORD.sub(lambda match: next(news) or match[0], text)


class Eda:
    """Random deletion, then random swaps (Wei and Zou 2019, section 2), without synonyms, which need a thesaurus.

    Each word is deleted with probability p; if all are, one of them stays. Then max(1, round(p n)) times two words
    trade places. Words are what spaces separate. The paper makes a copy by one operation; here it gets both. What
    `keeps` names is not deleted, but may trade places.
    """

    default = 0.1  # their alpha

    def __init__(self, texts, p, keeps=none):
        self.p, self.keeps = p, keeps

    def __call__(self, text, random):
        """text -> text; random: a numpy RandomState."""
        words = text.split()
        kept = random.random_sample(len(words)) >= self.p  # [n]
        kept |= np.array([self.keeps(word) for word in words], dtype=bool)
        kept[random.randint(len(words))] |= not kept.any()
        words = [word for word, stays in zip(words, kept, strict=True) if stays]
        if len(words) > 1:
            for _ in range(max(1, round(self.p * len(words)))):
                i = random.randint(len(words))
                j = (i + random.randint(1, len(words))) % len(words)  # any other place
                words[i], words[j] = words[j], words[i]
        return " ".join(words)

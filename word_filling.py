"""Copies of texts whose words a masked language model fills in: its own guesses, in place of some words.

The chat models' random-mask completion (Yan, "BERT Multitask Learning in a Semi-Supervised Learning Setup", section
3.4.1) without a chat model: the head is one of pretraining.py, or of a published checkpoint that has one.

Shapes: n words of a text, M of them blanked, H hidden size, W words that may be filled in, K the likeliest of them.
"""

import json

import numpy as np
import torch

from bert import BertForMaskedLM
from files import UserError
from hub import resolve
from masking import exam_of, perplexity
from packing import pack
from tokenization import Tokenizer
from word_changes import TfIdf

CANDIDATES = 10  # K
KNOWN_BY = 1000  # texts from which the perplexity of a head without a record is told


class FillMask:
    """Words blanked and filled in again by a masked language model.

    Each word is blanked with probability p, and one where none would be. A blank is one [MASK], whatever the word was;
    all blanks of a text are filled in from one pass of the model, so that none sees what the others became. Each is
    drawn from the K = 10 likeliest words, in proportion to their probabilities; the word that stood there is none of
    them. Words are runs of letters and digits (as in TfIdf) on both sides: pieces such as ##ing are not drawn. Blanks
    beyond the model's longest sequence keep their word.
    """

    def __init__(self, texts, p, model):
        """model: a checkpoint, as --model of multitask_classifier.py. UserError where it has no masked-LM head."""
        self.p, self.found = p, resolve(model)
        self.tokenizer = Tokenizer.from_folder(self.found.folder)
        self.model = BertForMaskedLM.from_pretrained(self.found.folder).eval()
        if self.model.head_is_new:
            raise UserError(
                f"{self.found.name} has no masked-LM head to fill words in with: train one (python pretraining.py "
                f"--model {model} --run_dir RUN), and give --model RUN/bert"
            )
        self.longest = self.model.bert.config.max_position_embeddings
        words = {id: word for word, id in self.tokenizer.vocabulary.items() if TfIdf.WORD.fullmatch(word)}
        self.ids, self.words = torch.tensor([*words]), [*words.values()]  # [W]
        self.place = {word: place for place, word in enumerate(self.words)}  # of a word among the W

    def held_out_perplexity(self, texts):
        """(a number, what it was measured on): what the head's training run wrote down, or else that on some of the
        texts."""
        record = self.found.folder.parent / "scores.json"  # of a run of pretraining.py
        if record.is_file() and "perplexity" in (scores := json.loads(record.read_text(encoding="utf-8"))):
            return scores["perplexity"], "the text held out from its training"
        few = [(text,) for text in texts[:KNOWN_BY]]
        exam = exam_of(self.tokenizer.encode(few, self.longest), self.tokenizer, "cpu")
        return perplexity(self.model.losses, exam), f"the first {len(few):,} texts"

    @torch.no_grad()
    def __call__(self, text, random):
        """text -> text; random: a numpy RandomState."""
        text = text.replace("[MASK]", "mask")  # or the tokenizer would read a blank that is none of ours
        words = [*TfIdf.WORD.finditer(text)]  # [n]
        if not words:
            return text
        blanked = random.random_sample(len(words)) < self.p  # [n]
        blanked[random.randint(len(words))] |= not blanked.any()
        draws = random.random_sample(len(words))[blanked]  # [M]
        blanks = [word for word, blank in zip(words, blanked, strict=True) if blank]
        logits = self._logits(_replaced(text, blanks, ["[MASK]"] * len(blanks)))  # [M, W]
        for row, blank in zip(logits, blanks, strict=False):  # strict=False: what was cut off has no row
            if (place := self.place.get(blank[0].lower())) is not None:
                row[place] = -torch.inf
        best, places = logits.topk(min(CANDIDATES, len(self.words)))  # [M, K]
        up_to = best.double().softmax(dim=-1).cumsum(dim=-1).numpy()  # [M, K]
        chosen = (draws[: len(up_to), None] >= up_to[:, :-1]).sum(axis=1)  # [M], each below K
        fillings = [self.words[row[k]] for row, k in zip(places.tolist(), chosen, strict=True)]
        return _replaced(text, blanks[: len(fillings)], fillings)

    def _logits(self, text):
        """[M, W] at the M blanks of a text."""
        sequence = self.tokenizer.encode([(text,)], self.longest)
        blanks = torch.from_numpy(np.flatnonzero(sequence.ids == self.tokenizer.mask))  # [M]
        hidden = self.model.bert.encode_packed(pack(sequence, "cpu"))[blanks]  # [M, H]
        return self.model.predict(hidden)[:, self.ids]


def _replaced(text, matches, words):
    """The text with each match, in order, replaced by a word."""
    parts, end = [], 0
    for match, word in zip(matches, words, strict=True):
        parts += [text[end : match.start()], word]
        end = match.end()
    return "".join([*parts, text[end:]])

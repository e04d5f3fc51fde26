"""Copies of texts whose words a masked language model fills in: its own guesses, in place of some words.

The chat models' random-mask completion (Yan, "BERT Multitask Learning in a Semi-Supervised Learning Setup", section
3.4.1) without a chat model: the head is one of pretraining.py, or of a published checkpoint that has one.

Shapes: n words of a text, N tokens of several texts, M blanks of a text or of several, H hidden size, W words that may
be filled in, K the likeliest of them.
"""

import numpy as np
import torch

from bert import BertForMaskedLM
from minbert.augment.sentiment_words import none
from minbert.augment.word_changes import TfIdf
from minbert.files import UserError
from minbert.hub import pretraining_scores, resolve
from minbert.layers.packing import pack
from minbert.masked_lm.masking import exam_of, perplexity
from minbert.text.tokenization import Tokenizer

CANDIDATES = 10  # K
KNOWN_BY = 1000  # texts from which the perplexity of a head without a record is told


class FillMask:
    """Words blanked and filled in again by a masked language model.

    Each word is blanked with probability p, and one where none would be. A blank is one [MASK], whatever the word was;
    all blanks of a text are filled in from one pass of the model, so that none sees what the others became. Each is
    drawn from the K = 10 likeliest words, in proportion to their probabilities; the token that stood there is none of
    them. Words are runs of letters and digits (as in TfIdf) on both sides: pieces such as ##ing are not drawn. Blanks
    beyond the model's longest sequence keep their word.
    """

    def __init__(self, p, model, keeps=none):
        """model: a checkpoint, as --model of multitask_classifier.py; keeps: whether a word must stay. UserError where
        the checkpoint has no masked-LM head."""
        self.p, self.keeps, self.found = p, keeps, resolve(model)
        self.model = BertForMaskedLM.from_pretrained(self.found.folder)
        if self.model.head_is_new:
            raise UserError(
                f"{self.found.name} has no masked-LM head to fill words in with: train one (python pretraining.py "
                f"--model {model} --run_dir RUN), and give --model RUN/bert"
            )
        config = self.model.bert.config
        self.tokenizer = Tokenizer.from_folder(self.found.folder, config.vocab_size)
        self.longest = config.max_position_embeddings
        if self.tokenizer.mask not in self.tokenizer.encode([("[MASK]",)], self.longest).ids:
            raise UserError(
                f"{self.found.folder}: its tokenizer reads [MASK] as ordinary text, so nothing can be blanked"
            )
        words = {id: word for word, id in self.tokenizer.vocabulary.items() if TfIdf.WORD.fullmatch(word)}
        self.ids, self.words = torch.tensor([*words]), [*words.values()]  # [W]
        self.place = {id: place for place, id in enumerate(words)}  # of a token among the W

    def quality(self, texts):
        """A sentence on the head's perplexity: on the text held out from its training, where that was by
        pretraining.py, else on some of the texts."""
        if scores := pretraining_scores(self.found.folder):
            return f"{self.found.name}: held-out perplexity {scores['perplexity']:.2f}, as its training run measured it"
        few = [(text,) for text in texts[:KNOWN_BY]]
        exam = exam_of(self.tokenizer.encode(few, self.longest), self.tokenizer, "cpu")
        if not any(len(labels) for _, _, labels in exam):
            return f"{self.found.name}: the texts are too short to tell its perplexity"
        number = perplexity(self.model.losses, exam)
        return f"{self.found.name}: perplexity {number:.2f} on the first {len(few):,} texts"

    def __call__(self, text, random):
        """text -> text; random: a numpy RandomState."""
        return self.many([(text, random)])[0]

    @torch.no_grad()
    def many(self, jobs):
        """[(text, RandomState)] -> [text]: several texts in one pass of the model, which costs it little more than one.
        What a text becomes depends on the others by rounding alone."""
        blanked = [self._blank(text, random) for text, random in jobs]
        masked = [_replaced(text, blanks, ["[MASK]"] * len(blanks)) for text, blanks, _ in blanked]
        sequences = self.tokenizer.encode([(text,) for text in masked], self.longest)
        order = np.argsort(sequences.lengths, kind="stable")  # as `pack` will order them: it keeps the places
        sequences = sequences.take(order)
        is_blank = sequences.ids == self.tokenizer.mask  # [N]
        hidden = self.model.bert.encode_packed(pack(sequences, "cpu"))[torch.from_numpy(is_blank)]  # [M, H]
        logits = self.model.predict(hidden)[:, self.ids]  # [M, W]
        ends = np.cumsum(np.add.reduceat(is_blank, sequences.offsets[:-1]))  # [texts]: where each one's blanks end
        copies = [""] * len(jobs)
        for row, part in zip(order, np.split(np.arange(len(logits)), ends[:-1]), strict=True):
            text, blanks, draws = blanked[row]
            fillings = self._draw(logits[part], blanks, draws)
            copies[row] = _replaced(text, blanks[: len(fillings)], fillings)
        return copies

    def _blank(self, text, random):
        """(the text, the words of it that are blanked, a uniform random number for each [M])"""
        text = text.replace("[MASK]", "mask")  # or the tokenizer would read a blank that is none of ours
        words = [word for word in TfIdf.WORD.finditer(text) if not self.keeps(word[0])]  # [n]
        if not words:
            return text, [], np.zeros(0)
        blanked = random.random_sample(len(words)) < self.p  # [n]
        blanked[random.randint(len(words))] |= not blanked.any()
        draws = random.random_sample(len(words))[blanked]  # [M]
        return text, [word for word, blank in zip(words, blanked, strict=True) if blank], draws

    def _draw(self, logits, blanks, draws):
        """The words [M] for the M blanks of a text, less those that were cut off: logits [M, W], draws [M]."""
        if not len(logits):
            return []
        was = self.tokenizer.encode([(blank[0],) for blank in blanks[: len(logits)]], self.longest)
        for row, start, length in zip(logits, was.offsets[:-1], was.lengths, strict=True):
            place = self.place.get(was.ids[start + 1])
            if length == 3 and place is not None:  # [CLS] word [SEP]: the word is one token
                row[place] = -torch.inf
        best, places = logits.topk(min(CANDIDATES, len(self.words)))  # [M, K]
        up_to = best.double().softmax(dim=-1).cumsum(dim=-1).numpy()  # [M, K]
        chosen = (draws[: len(up_to), None] >= up_to[:, :-1]).sum(axis=1)  # [M], each below K
        return [self.words[row[k]] for row, k in zip(places.tolist(), chosen, strict=True)]


def _replaced(text, matches, words):
    """The text with each match, in order, replaced by a word."""
    parts, end = [], 0
    for match, word in zip(matches, words, strict=True):
        parts += [text[end : match.start()], word]
        end = match.end()
    return "".join([*parts, text[end:]])

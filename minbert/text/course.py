"""The six names that the course's scripts import from `datasets`, over our readers and tokenizer.

Stanford CS224N's default project keeps its data in lists of tuples and makes padded batches in a `collate_fn`. Its
scripts find these names in `datasets`, which forwards them here.
"""

import argparse
import functools
import types

import numpy as np
import torch
from torch.utils.data import Dataset

from datasets import TASKS, data_folder, read, told_of_broken
from minbert import hub
from minbert.text.tokenization import Sequences, Tokenizer, places_kept


def load_multitask_data(sst_file, para_file, sts_file, split="train"):
    """(sentiment, num_labels, paraphrase, similarity) of three files.

    Rows are (sentence, label, id) and (sentence1, sentence2, label, id), in a test split without the label;
    num_labels is a dict with one entry for each sentiment label that occurs.
    """
    sentiment, paraphrase, similarity = (
        _rows(task, path, split) for task, path in (("sst", sst_file), ("quora", para_file), ("sts", sts_file))
    )
    seen = [] if split == "test" else sorted({label for _, label, _ in sentiment})
    return sentiment, {label: place for place, label in enumerate(seen)}, paraphrase, similarity


def load_multitask_test_data():
    """(sentences, sentence pairs, sentence pairs) of the data folder's three test files, without ids."""
    folder, _ = data_folder()
    sentiment, paraphrase, similarity = (
        [row[:-1] for row in _rows(task, folder / TASKS[task].files["test"], "test")]
        for task in ("sst", "quora", "sts")
    )
    return [sentence for (sentence,) in sentiment], paraphrase, similarity


def _rows(task, path, split):
    examples = read(TASKS[task], path, split)
    skipped = f" ({len(examples.skipped)} rows without text or label skipped)" if examples.skipped else ""
    print(f"Loaded {len(examples)} {split} examples from {path}{skipped}{told_of_broken(examples.broken)}")
    labels = [()] * len(examples) if examples.labels is None else [(label,) for label in examples.labels.tolist()]
    return [(*text, *label, id) for text, label, id in zip(examples.texts, labels, examples.ids, strict=True)]


class _CourseDataset(Dataset):
    """Rows as above. `args` may name the checkpoint (`model`) whose tokenizer is used and the longest sequence
    (`max_length`); without them it is the default checkpoint and 512."""

    labelled = True

    def __init__(self, dataset, args):
        let_torch_load_settings()
        self.dataset = dataset
        self.max_length = getattr(args, "max_length", None) or 512
        self.tokenizer = _tokenizer(getattr(args, "model", None))
        self.label_type = torch.int64

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, row):
        return self.dataset[row]

    def encode(self, sentences):
        """[B] sentences, each on its own, as (ids, token types, mask), int64 [B, T], padded on the right."""
        return padded(
            self.tokenizer.encode([(sentence,) for sentence in sentences], self.max_length), self.tokenizer.pad
        )

    def labels_and_ids(self, columns):
        """What ends every batch; `columns` are those of the rows after the sentences."""
        labels = {"labels": torch.tensor(columns[0], dtype=self.label_type)} if self.labelled else {}
        return labels | {"sent_ids": list(columns[-1])}


class SentenceClassificationDataset(_CourseDataset):
    def collate_fn(self, rows):
        sentences, *rest = zip(*rows, strict=True)
        ids, _, mask = self.encode(sentences)
        return {"token_ids": ids, "attention_mask": mask, "sents": list(sentences)} | self.labels_and_ids(rest)


class SentenceClassificationTestDataset(SentenceClassificationDataset):
    labelled = False


class SentencePairDataset(_CourseDataset):
    def __init__(self, dataset, args, isRegression=False):
        super().__init__(dataset, args)
        self.label_type = torch.float64 if isRegression else torch.int64

    def collate_fn(self, rows):
        first, second, *rest = zip(*rows, strict=True)
        batch = {}
        for place, sentences in (("1", first), ("2", second)):
            ids, types, mask = self.encode(sentences)
            batch |= {f"token_ids_{place}": ids, f"token_type_ids_{place}": types, f"attention_mask_{place}": mask}
        return batch | self.labels_and_ids(rest)


class SentencePairTestDataset(SentencePairDataset):
    labelled = False


DATASETS = {  # split -> (of sentences, of pairs)
    "dev": (SentenceClassificationDataset, SentencePairDataset),
    "test": (SentenceClassificationTestDataset, SentencePairTestDataset),
}


def let_torch_load_settings():
    """The course's scripts save their settings and NumPy's random state with the weights, and torch.load refuses such
    classes since 2.6. These few hold data and do nothing, so they are let in; any other still is refused."""
    array = np.zeros(1, np.uint32)
    rebuild = array.__reduce__()[0]  # the function that a pickled array names, wherever NumPy keeps it
    kinds = (argparse.Namespace, types.SimpleNamespace, np.ndarray, np.dtype, type(array.dtype), rebuild)
    torch.serialization.add_safe_globals(list(kinds))


def padded(sequences, pad):
    """Sequences -> (ids, token types, mask), int64 [B, T], padded on the right; the mask is 1 for a token."""
    lengths = torch.from_numpy(sequences.lengths)
    mask = torch.arange(int(lengths.max())) < lengths[:, None]  # [B, T]
    ids, types = torch.full(mask.shape, pad), torch.zeros(mask.shape, dtype=torch.int64)
    ids[mask] = torch.from_numpy(sequences.ids).long()  # row after row, as the tokens lie end to end
    types[mask] = torch.from_numpy(sequences.types).long()
    return ids, types, mask.long()


def without_pads(ids, mask):
    """Padded ids and mask [B, T] -> Sequences."""
    rows = [row[keep] for row, keep in zip(ids.cpu().numpy(), mask.bool().cpu().numpy(), strict=True)]
    return _sequences([(row, np.zeros_like(row)) for row in rows])


def fused_pairs(pairs, limit):
    """SentencePairs [CLS] A [SEP] and [CLS] B [SEP] -> Sequences [CLS] A [SEP] B [SEP], each of at most `limit` tokens,
    cut as the tokenizer cuts."""
    sides = (np.split(side.ids, side.offsets[1:-1]) for side in pairs.parts)
    return _sequences([_fused(a, b, limit) for a, b in zip(*sides, strict=True)])


def _fused(a, b, limit):
    """The ids of two sequences -> ids and token types of the fused one."""
    ids = np.concatenate([a, b[1:]])
    types = np.repeat([0, 1], [len(a), len(b) - 1])
    kept = places_kept(len(ids), len(b) - 1, limit) if len(ids) > limit else slice(None)
    return ids[kept], types[kept]


def _sequences(rows):
    """[(ids, token types)] -> Sequences."""
    ids, types = zip(*rows, strict=True)
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in ids])])
    return Sequences(np.concatenate(ids), np.concatenate(types), offsets)


@functools.cache
def _tokenizer(model):
    """The tokenizer of a checkpoint, read once."""
    return Tokenizer.from_folder(hub.resolve(model).folder)

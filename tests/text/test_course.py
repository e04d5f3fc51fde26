"""The course's protocol, as its evaluation.py follows it: load three files, wrap them, loop over a DataLoader."""

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import datasets
from bert import BertModel
from datasets import (
    TASKS,
    SentenceClassificationDataset,
    SentenceClassificationTestDataset,
    SentencePairDataset,
    SentencePairTestDataset,
    load_multitask_data,
    load_multitask_test_data,
)
from minbert import hub
from minbert.files import UserError
from minbert.text import course
from minbert.text.tokenization import Tokenizer
from multitask_classifier import MultitaskBERT

ROOT = Path(datasets.__file__).parent
WORDS = ["bad", "dull", "plain", "nice", "great", "cat", "dog", "sat", "ran", "and"]
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]


@pytest.fixture
def args(tmp_path):
    """Three small files a split, with the hidden answers inside the words, and the arguments the course would pass."""
    (tmp_path / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n")
    generator = np.random.RandomState(0)
    chosen = argparse.Namespace(model=str(tmp_path), batch_size=4)
    for split in ("dev", "test"):
        labelled = split == "dev"
        sst, para, sts = ["\tid\tsentence\tsentiment"], ["\tid\tsentence1\tsentence2\tis_duplicate"], []
        sts.append("\tid\tsentence1\tsentence2\tsimilarity")
        for i in range(11):
            tail = " ".join(generator.choice(WORDS[5:], generator.randint(0, 6)))
            same, shared = int(generator.randint(2)), int(generator.randint(6))
            label = int(generator.randint(5)) if i > 4 else i
            sst.append(f"{i}\ts{split}{i}\t{WORDS[label].upper()} {tail}\t{label}")
            second = "cat" if same else "dog"
            para.append(f'{i}\tp{split}{i}\t"cat {tail}"\t{second}\t{same}.0')
            sts.append(f"{i}\tt{split}{i}\t{'cat ' * (1 + shared)}\tdog {tail}\t{shared}.0")
        para.append(f"99\tp{split}99\tcat\t{'dog' if labelled else ''}\t")  # no label in dev, no text in test
        for name, lines in (("sst", sst), ("para", para), ("sts", sts)):
            if not labelled:
                lines = [line.rsplit("\t", 1)[0] for line in lines]
            path = tmp_path / f"{name}-{split}.csv"
            path.write_text("\n".join(lines) + "\n")
            setattr(chosen, f"{name}_{split}", str(path))
    return chosen


class Oracle:
    """A model that reads the answers off the padded ids, and would read wrongly if ids, masks or order were off."""

    def check(self, ids, mask):
        assert ids.dtype == mask.dtype == torch.int64
        assert ids.shape == mask.shape
        assert (ids[:, 0] == VOCABULARY.index("[CLS]")).all()
        assert torch.equal(ids != VOCABULARY.index("[PAD]"), mask.bool())
        last = ids.gather(1, mask.sum(1, keepdim=True) - 1)
        assert (last == VOCABULARY.index("[SEP]")).all()
        assert mask.sum(1).max() == ids.shape[1]

    def predict_sentiment(self, ids, mask):
        self.check(ids, mask)
        return torch.nn.functional.one_hot(ids[:, 1] - 5, 5).float()

    def predict_paraphrase(self, ids1, mask1, ids2, mask2):
        self.check(ids1, mask1)
        self.check(ids2, mask2)
        return torch.where(ids1[:, 1] == ids2[:, 1], 3.0, -3.0)[:, None]

    def predict_similarity(self, ids1, mask1, ids2, mask2):
        self.check(ids1, mask1)
        self.check(ids2, mask2)
        return (mask1.sum(1) - 3).float()


def loader(dataset, shuffle):
    return DataLoader(dataset, shuffle=shuffle, batch_size=4, collate_fn=dataset.collate_fn)


def pair_of(batch):
    return [batch[f"{key}_{place}"] for place in "12" for key in ("token_ids", "attention_mask")]


def score(pairs):
    predicted, true = map(np.concatenate, zip(*pairs, strict=True))
    return predicted, true


def test_dev_protocol(args):
    """Accuracy, accuracy and correlation of a perfect model are 1, over every usable row, in the file's order."""
    sst, num_labels, para, sts = load_multitask_data(args.sst_dev, args.para_dev, args.sts_dev, split="dev")
    assert num_labels == {0: 0, 1: 1, 2: 2, 3: 3, 4: 4}
    assert [len(each) for each in (sst, para, sts)] == [11, 11, 11]
    assert sst[0] == (sst[0][0], 0, "sdev0")
    assert para[3][2] in (0, 1)
    assert isinstance(para[3][2], int)
    assert isinstance(sts[3][2], float)
    model, seen = Oracle(), {"sst": [], "para": [], "sts": []}

    found = []
    for batch in loader(SentenceClassificationDataset(sst, args), shuffle=False):
        assert sorted(batch) == ["attention_mask", "labels", "sent_ids", "sents", "token_ids"]
        assert batch["labels"].dtype == torch.int64
        predicted = model.predict_sentiment(batch["token_ids"], batch["attention_mask"]).argmax(-1)
        found.append((predicted.numpy(), batch["labels"].flatten().numpy()))
        seen["sst"] += batch["sent_ids"]
        assert [sentence for sentence, _, id in sst if id in batch["sent_ids"]] == batch["sents"]
    predicted, true = score(found)
    assert (predicted == true).all()

    found = []
    for batch in loader(SentencePairDataset(para, args), shuffle=False):
        assert batch["labels"].dtype == torch.int64
        assert not batch["token_type_ids_1"].any()
        assert batch["token_type_ids_2"].shape == batch["token_ids_2"].shape
        logits = model.predict_paraphrase(*pair_of(batch))
        found.append((logits.sigmoid().round().flatten().numpy(), batch["labels"].flatten().numpy()))
        seen["para"] += batch["sent_ids"]
    predicted, true = score(found)
    assert (predicted == true).all()

    found = []
    for batch in loader(SentencePairDataset(sts, args, isRegression=True), shuffle=False):
        assert batch["labels"].dtype == torch.float64
        found.append((model.predict_similarity(*pair_of(batch)).numpy(), batch["labels"].numpy()))
        seen["sts"] += batch["sent_ids"]
    predicted, true = score(found)
    assert np.corrcoef(predicted, true)[1][0] == pytest.approx(1.0)
    assert seen == {name: [f"{name[0] if name != 'sts' else 't'}dev{i}" for i in range(11)] for name in seen}


def test_test_protocol(args, capsys):
    """No labels anywhere; the course shuffles its test loader, so every id must come with its own prediction."""
    sst, num_labels, para, sts = load_multitask_data(args.sst_test, args.para_test, args.sts_test, split="test")
    assert num_labels == {}
    assert capsys.readouterr().out.splitlines() == [
        f"Loaded 11 test examples from {args.sst_test}",
        f"Loaded 11 test examples from {args.para_test} (1 rows without text or label skipped)",
        f"Loaded 11 test examples from {args.sts_test}",
    ]
    model = Oracle()
    answers = {}
    for batch in loader(SentenceClassificationTestDataset(sst, args), shuffle=True):
        assert sorted(batch) == ["attention_mask", "sent_ids", "sents", "token_ids"]
        predicted = model.predict_sentiment(batch["token_ids"], batch["attention_mask"]).argmax(-1)
        answers |= dict(zip(batch["sent_ids"], predicted.tolist(), strict=True))
    assert answers == {id: WORDS.index(sentence.split()[0].lower()) for sentence, id in sst}
    for rows in (para, sts):
        ids = []
        for batch in loader(SentencePairTestDataset(rows, args), shuffle=True):
            assert "labels" not in batch
            model.predict_paraphrase(*pair_of(batch))
            ids += batch["sent_ids"]
        assert sorted(ids) == sorted(id for _, _, id in rows)


def test_fractions_of_scores_survive(args, tmp_path):
    """STS labels are not cut to whole numbers."""
    path = tmp_path / "halves.csv"
    path.write_text("\tid\tsentence1\tsentence2\tsimilarity\n0\ta\tcat\tdog\t2.6\n1\tb\tcat\tcat\t4.25\n")
    *_, rows = load_multitask_data(args.sst_dev, args.para_dev, path, split="train")
    batch = next(iter(loader(SentencePairDataset(rows, args, isRegression=True), shuffle=False)))
    assert batch["labels"].tolist() == pytest.approx([2.6, 4.25], abs=1e-6)


def test_longest_sequence(args):
    rows = [("cat " * 900, 1, "x")]
    for dataset, length in (
        (SentenceClassificationDataset(rows, args), 512),
        (SentenceClassificationDataset(rows, argparse.Namespace(**vars(args), max_length=16)), 16),
    ):
        assert dataset.collate_fn([dataset[0]])["token_ids"].shape == (1, length)


def test_without_a_model_it_is_the_default_checkpoint(args, monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(hub, "resolve", lambda name: asked.append(name) or hub.Found(tmp_path, "any", "here"))
    course._tokenizer.cache_clear()
    SentencePairDataset([], argparse.Namespace())
    SentencePairTestDataset([], argparse.Namespace(model=None))
    assert asked == [None]  # and asked once, not once a data set
    course._tokenizer.cache_clear()


def test_test_data_of_the_data_folder(tmp_path, monkeypatch):
    folder = tmp_path / "data" / "cs224n"
    folder.mkdir(parents=True)
    (folder / TASKS["sst"].files["test"]).write_text("0\t\tid\tsentence\n0\t0\tx\tGood film\n")
    (folder / TASKS["quora"].files["test"]).write_text("\tid\tsentence1\tsentence2\n0\ty\tA b\tC\n")
    (folder / TASKS["sts"].files["test"]).write_text("\tid\tsentence1\tsentence2\n0\tz\tD\tE f\n")
    monkeypatch.setattr(datasets, "HERE", tmp_path)
    assert load_multitask_test_data() == (["Good film"], [("A b", "C")], [("D", "E f")])


def test_either_file_can_be_imported_first():
    for first in ("datasets", "minbert.text.course"):
        code = (
            f"import {first}, datasets; from minbert.text import course; "
            "assert datasets.SentencePairDataset is course.SentencePairDataset"
        )
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_pairs_encoded_apart_are_fused_as_the_tokenizer_fuses_them(tiny_model):
    """No pads in the middle, one [CLS], token types 0 and 1; cut like the tokenizer's where both together exceed the
    model's 512 positions."""
    model = MultitaskBERT(
        BertModel.from_pretrained(tiny_model), {name: TASKS[name] for name in ("quora", "sts")}
    ).eval()
    tokenizer = Tokenizer.from_folder(tiny_model)
    long, short = "the film " * 220, "a story " * 90
    pairs = [("the dog", "a small cat can sing"), (long, short), ("why", "how"), (short, long), (long, long)]
    args = argparse.Namespace(model=str(tiny_model))
    rows = [(a, b, 0, str(number)) for number, (a, b) in enumerate(pairs)]
    batch = SentencePairDataset(rows, args).collate_fn(rows)
    padded = [batch[f"{name}_{place}"] for place in (1, 2) for name in ("token_ids", "attention_mask")]
    together = tokenizer.encode(pairs, 512)
    assert together.truncated == 3
    expected = model({"quora": together, "sts": together})
    assert torch.allclose(model.predict_paraphrase(*padded), expected["quora"], atol=1e-6)
    scores = model.heads["sts"].predict(expected["sts"])
    assert torch.allclose(model.predict_similarity(*padded), scores, atol=1e-6)
    assert len(set(scores.tolist())) == len(pairs)


def test_a_students_weights_with_the_starters_position_ids_load(tiny_model):
    model = BertModel.from_pretrained(tiny_model)
    weights = {**model.state_dict(), "position_ids": torch.arange(512)[None]}
    BertModel(model.config).load_state_dict(weights)
    whole = MultitaskBERT(model, {"sst": TASKS["sst"]})
    whole.load_state_dict({**whole.state_dict(), "bert.position_ids": torch.arange(512)[None]})


class Students(BertModel):
    """A model in the manner of the course's starter: its positions are a buffer, and it asks for its dtype."""

    def __init__(self, config):
        super().__init__(config)
        self.register_buffer("position_ids", torch.arange(config.max_position_embeddings).unsqueeze(0))

    def embed(self, ids, positions, types):
        return super().embed(ids, self.position_ids[0, positions], types)


def distance(one, other):
    """The largest difference of the two outputs for some ids."""
    ids = torch.arange(5, 25).view(2, 10)
    with torch.no_grad():
        one, other = one(ids), other(ids)
    return max((one[key] - other[key]).abs().max().item() for key in one)


def test_a_students_constants_have_their_values(tiny_model, tmp_path):
    """The starter's position_ids: no file has them, and a buffer made on "meta" would hold whatever was in memory."""
    model = Students.from_pretrained(tiny_model)
    assert torch.equal(model.position_ids, torch.arange(512)[None])
    assert not any(parameter.is_meta for parameter in model.parameters())
    assert distance(BertModel.from_pretrained(tiny_model), model) == 0
    model.save_pretrained(tmp_path / "again")
    assert distance(model, Students.from_pretrained(tmp_path / "again")) == 0
    copy = Students(model.config)
    copy.load_state_dict(model.state_dict())  # strict: as the starters' scripts read back what they saved
    assert distance(model, copy.eval()) == 0


def test_a_model_says_its_dtype(tiny_model):
    model = BertModel.from_pretrained(tiny_model)
    assert model.dtype is torch.float32
    assert model.double().dtype is torch.float64


def test_a_model_without_the_task_says_so(tiny_model):
    """And not by a KeyError out of the middle of torch."""
    model = MultitaskBERT(BertModel.from_pretrained(tiny_model), {"sts": TASKS["sts"]})
    ids = torch.tensor([[2, 5, 3]])
    with pytest.raises(UserError, match="sst: this model has no head for it; its tasks are sts"):
        model.predict_sentiment(ids, torch.ones_like(ids))

"""The course's four functions of scoring, as its scripts import them from `evaluation` and unpack what they return."""

import argparse
import types

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import evaluation
from datasets import TASKS, SentenceClassificationDataset, SentencePairDataset, load_multitask_data
from evaluation import model_eval_multitask, model_eval_sst, model_eval_test_multitask
from evaluation import test_model_multitask as write_all  # a test by its name alone
from minbert import evaluation as ours
from minbert.text.course import let_torch_load_settings

CPU = torch.device("cpu")


class ByLength(torch.nn.Module):
    """A model whose answers depend on the number of tokens, some right and some wrong; in training mode it fails."""

    def predict_sentiment(self, ids, mask):
        assert not self.training
        return torch.nn.functional.one_hot(mask.sum(1) % 5, 5).float()

    def predict_paraphrase(self, ids1, mask1, ids2, mask2):
        assert not self.training
        return (mask1.sum(1) - mask2.sum(1)).float()[:, None]

    def predict_similarity(self, ids1, mask1, ids2, mask2):
        assert not self.training
        return (mask1.sum(1) - mask2.sum(1)).float() / 3


@pytest.fixture
def args(tiny_model, tiny_data, tmp_path):
    files = {
        f"{TASKS[name].course_name}_{split}": str(tiny_data / TASKS[name].files[split])
        for name in ("sst", "quora", "sts")
        for split in ("dev", "test")
    }
    outs = {f"{flag}_out": str(tmp_path / f"{flag}_out.csv") for flag in files}
    return argparse.Namespace(model=str(tiny_model), batch_size=4, **files, **outs)


def loaders(args):
    sst, _, para, sts = load_multitask_data(args.sst_dev, args.para_dev, args.sts_dev, split="dev")
    sets = (
        SentenceClassificationDataset(sst, args),
        SentencePairDataset(para, args),
        SentencePairDataset(sts, args, isRegression=True),
    )
    return [DataLoader(rows, batch_size=4, collate_fn=rows.collate_fn) for rows in sets], (sst, para, sts)


def lengths(args, texts):
    """How many tokens each text has."""
    rows = [(text, 0, "x") for text in texts]
    data = SentenceClassificationDataset(rows, args)
    return data.collate_fn(rows)["attention_mask"].sum(1).numpy()


def expected(args, sst, para, sts):
    """What `ByLength` says, computed from the rows."""
    apart = [lengths(args, [row[0] for row in rows]) - lengths(args, [row[1] for row in rows]) for rows in (para, sts)]
    similar = np.float32(apart[1]) / np.float32(3)
    return lengths(args, [row[0] for row in sst]) % 5, (apart[0] > 0).astype(float), similar


def test_sst(args):
    (sst_loader, *_), (sst, para, sts) = loaders(args)
    accuracy, f1, predicted, true, sentences, ids = model_eval_sst(sst_loader, ByLength(), CPU)
    values, labels = expected(args, sst, para, sts)[0], np.array([row[1] for row in sst])
    assert list(predicted) == values.tolist()
    assert (true, sentences, ids) == ([row[1] for row in sst], [row[0] for row in sst], [row[2] for row in sst])
    assert accuracy == np.mean(values == labels)
    seen = [c for c in range(5) if c in values or c in labels]
    each = [2 * np.sum((values == c) & (labels == c)) / (np.sum(values == c) + np.sum(labels == c)) for c in seen]
    assert f1 == pytest.approx(np.mean(each))


def test_all_three(args, capsys):
    loaded, rows = loaders(args)
    (sst_score, sst, sst_ids, para_score, para, para_ids, sts_score, sts, sts_ids) = model_eval_multitask(
        *loaded, ByLength(), CPU
    )
    for found, values in zip((sst, para, sts), expected(args, *rows), strict=True):
        np.testing.assert_array_equal(found, values)
    assert [sst_ids, para_ids, sts_ids] == [[row[-1] for row in part] for part in rows]
    truth = [np.array([row[-2] for row in part]) for part in rows]
    assert (sst_score, para_score) == (np.mean(sst == truth[0]), np.mean(para == truth[1]))
    assert sts_score == pytest.approx(np.corrcoef(sts, truth[2])[1][0])
    assert f"sts: pearson {sts_score:.3f} on 9 examples" in capsys.readouterr().out
    assert model_eval_test_multitask(*loaded, ByLength(), CPU) == (sst, sst_ids, para, para_ids, sts, sts_ids)


def test_2023_s_function_writes_six_files(args, tmp_path):
    write_all(args, ByLength(), CPU)
    assert len(list(tmp_path.glob("*_out.csv"))) == 6
    found = {path.name: path.read_text().splitlines() for path in tmp_path.glob("*_out.csv")}
    assert {name: len(lines) - 1 for name, lines in found.items() if "dev" in name} == {
        "sst_dev_out.csv": 11, "para_dev_out.csv": 13, "sts_dev_out.csv": 9
    }  # fmt: skip
    assert found["para_test_out.csv"][0] == "id \t Predicted_Is_Paraphrase "
    assert found["para_test_out.csv"][1] in ("quoratest0000 , 0.0 ", "quoratest0000 , 1.0 ")
    sst = load_multitask_data(args.sst_dev, args.para_dev, args.sts_dev, split="dev")[0]
    said = lengths(args, [row[0] for row in sst]) % 5
    assert found["sst_dev_out.csv"][1:] == [f"{row[2]} , {value} " for row, value in zip(sst, said, strict=True)]


def test_evaluation_is_a_name_for_ours():
    assert evaluation.predict is ours.predict
    assert evaluation.TOKEN_BUDGET == ours.TOKEN_BUDGET
    with pytest.raises(ImportError, match="no_such_name"):
        from evaluation import no_such_name  # noqa: F401


def test_torch_loads_what_the_course_s_scripts_save(tmp_path):
    """Settings and random states, but no function."""
    let_torch_load_settings()
    saved = {"args": argparse.Namespace(lr=1e-5), "numpy_rng": np.random.RandomState(0).get_state()}
    torch.save({**saved, "model_config": types.SimpleNamespace(option="pretrain", labels={0: 0})}, tmp_path / "x.pt")
    loaded = torch.load(tmp_path / "x.pt")
    assert (loaded["args"].lr, loaded["model_config"].labels) == (1e-5, {0: 0})
    np.testing.assert_array_equal(loaded["numpy_rng"][1], saved["numpy_rng"][1])
    torch.save(types.SimpleNamespace(call=print), tmp_path / "x.pt")
    with pytest.raises(Exception, match="GLOBAL print was not an allowed"):
        torch.load(tmp_path / "x.pt")

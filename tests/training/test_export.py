"""A head as a Hugging Face folder: the pipeline answers as ours does, and what it could not say is refused."""

import numpy as np
import pytest
import tiny
from transformers import AutoTokenizer, BertForSequenceClassification, pipeline

import minbert
from bert import BertModel
from datasets import TASKS
from minbert.methods.shared_head import merging_of
from minbert.training.export import objection
from multitask_classifier import MultitaskBERT

pytestmark = pytest.mark.filterwarnings("ignore:a constant prediction")  # of so few examples
TEXTS = ["the film was good", "A DULL slow plot, and bad music!", "çok unknown 𓀀 words", "dog " * 70]
PAIRS = [("a dog", "a big old cat"), ("how", "why"), ("the film " * 40, "the small bad film"), ("a " * 50, "b " * 50)]
HEADS = ("regression", "linear", "classification", "ordinal6")


@pytest.fixture(scope="module")
def exported(tmp_path_factory, tiny_model, tiny_data):
    """exported(--sts_head) -> (the folder of a run, that of its heads, the Outcome of --export)."""
    made = {}

    def export(sts_head):
        if sts_head not in made:
            folder = tmp_path_factory.mktemp("export")
            flags = ("--model", tiny_model, "--data_dir", tiny_data, "--run_dir", folder / "run", "--max_length", 64)
            learning = ("--option", "pretrain", "--lr", "5e-1", "--epochs", 1)  # heads far from where they began
            assert tiny.script(*flags, *learning, "--sts_head", sts_head).code == 0
            done = tiny.script("--export", folder / "run", folder / "heads")
            assert done.code == 0, done.err
            made[sts_head] = folder / "run", folder / "heads", done
        return made[sts_head]

    return export


def asked(folder, **more):
    return pipeline("text-classification", model=str(folder), truncation=True, **more)


def as_dicts(pairs):
    return [{"text": a, "text_pair": b} for a, b in pairs]


def test_export_makes_a_folder_for_every_head(exported):
    _, heads, done = exported("regression")
    assert done.out.splitlines() == [f"{name}: {heads / name}" for name in ("sst", "quora", "sts")]
    assert sorted(path.name for path in heads.iterdir()) == ["quora", "sst", "sts"]
    for folder in heads.iterdir():
        assert sorted(path.name for path in folder.iterdir()) == [
            *("README.md", "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
        ]


@pytest.mark.parametrize(("task", "texts"), [("sst", TEXTS), ("quora", PAIRS)])
def test_classes_and_their_probabilities(exported, task, texts):
    """A softmax, and two classes by one sigmoid."""
    run, heads, _ = exported("regression")
    ours = minbert.load(run).predict(texts)[task]
    theirs = asked(heads / task)(texts if task == "sst" else as_dicts(texts), top_k=None)
    assert [answer[0]["label"] for answer in theirs] == ours.labels
    by_name = [{said["label"]: said["score"] for said in answer} for answer in theirs]
    table = [[said[name] for name in ours.classes] for said in by_name]
    np.testing.assert_allclose(table, ours.probabilities, atol=1e-5)
    assert ours.probabilities.std() > 0.01  # not all alike


@pytest.mark.parametrize("head", HEADS)
def test_scores(exported, head):
    run, heads, _ = exported(head)
    ours = minbert.load(run).predict(PAIRS)["sts"]
    theirs = asked(heads / "sts")(as_dicts(PAIRS))
    if head in ("classification", "ordinal6"):
        assert [float(answer["label"]) for answer in theirs] == pytest.approx(ours.scores, abs=1e-6)
        assert [answer["score"] for answer in theirs] == pytest.approx(ours.probabilities.max(axis=1), abs=1e-5)
    else:
        low, high = TASKS["sts"].score_range if head == "regression" else (0, 1)
        assert [low + (high - low) * answer["score"] for answer in theirs] == pytest.approx(ours.scores, abs=1e-4)
        card = (heads / "sts" / "README.md").read_text(encoding="utf-8")
        assert ("0 + 5 * answer" in card) == (head == "regression")


@pytest.mark.parametrize(
    ("head", "task", "problem_type", "names"),
    [
        ("regression", "sst", "single_label_classification", TASKS["sst"].labels),
        ("regression", "quora", "single_label_classification", TASKS["quora"].labels),
        ("regression", "sts", "multi_label_classification", ("sts",)),
        ("linear", "sts", "regression", ("sts",)),
        ("classification", "sts", "single_label_classification", tuple(f"{i / 5:g}" for i in range(26))),
    ],
)
def test_the_config_says_what_the_outputs_are(exported, head, task, problem_type, names):
    _, heads, _ = exported(head)
    model = BertForSequenceClassification.from_pretrained(heads / task)
    assert model.config.id2label == dict(enumerate(names))
    assert model.config.label2id == {name: number for number, name in enumerate(names)}
    assert model.config.problem_type == problem_type
    assert model.config.classifier_dropout == 0.3
    assert AutoTokenizer.from_pretrained(heads / task).model_max_length == 64


def test_the_card_has_data_flags_scores_and_limits(exported):
    run, heads, _ = exported("regression")
    card = (heads / "sts" / "README.md").read_text(encoding="utf-8")
    scores, data = tiny.read_json(run / "scores.json"), tiny.read_json(run / "config.json")["data"]["sts"]
    assert f"| pearson | {scores['dev']['sts']['pearson']:.4f} |" in card
    assert f"| pearson of a constant answer | {scores['baseline']['sts']:.4f} |" in card
    assert f"| train | sts-train.csv | 13 | {data['train']['sha']} |" in card
    assert "- `--lr 0.5`" in card
    assert "cut to 64 tokens" in card
    assert str(run) not in card  # nor any folder of this machine
    assert str(tiny.ROOT) not in card


@pytest.mark.parametrize("truncate", ["head", "tail"])
def test_long_texts_are_cut_at_the_same_end(tiny_model, tiny_data, tmp_path, truncate):
    flags = ("--model", tiny_model, "--data_dir", tiny_data, "--run_dir", tmp_path / "run", "--max_length", 12)
    learning = ("--tasks", "sst,quora", "--epochs", 1, "--lr", "5e-1")
    assert tiny.script(*flags, *learning, "--truncate", truncate).code == 0
    assert tiny.script("--export", tmp_path / "run", tmp_path / "heads").code == 0
    model = minbert.load(tmp_path / "run")
    long = ["how why " * 20 + "a dog", "the film " * 9, "a cat runs"]
    pairs = [(a, b) for a in long for b in long]
    for task, texts, asks in (("sst", long, long), ("quora", pairs, as_dicts(pairs))):
        said = [answer["score"] for answer in asked(tmp_path / "heads" / task)(asks)]
        assert said == pytest.approx(model.predict(texts)[task].probabilities.max(axis=1), abs=1e-5)


def test_the_card_names_files_without_their_folders(tiny_model, tiny_data, tmp_path):
    copies = tmp_path / "copies.tsv"
    rows = [line.split("\t") for line in (tiny_data / "ids-sst-train.csv").read_text().splitlines()[1:]]
    copies.write_text("id\tsentence\tmethod\n" + "".join(f"{row[1]}\t{row[2]} again\ttest\n" for row in rows))
    flags = ("--model", tiny_model, "--data_dir", tiny_data, "--run_dir", tmp_path / "run", "--tasks", "sst")
    assert tiny.script(*flags, "--train_on_augmented", f"sst={copies}", "--epochs", 1).code == 0
    assert tiny.script("--export", tmp_path / "run", tmp_path / "heads").code == 0
    card = (tmp_path / "heads" / "sst" / "README.md").read_text(encoding="utf-8")
    assert "- `--train_on_augmented sst=copies.tsv`" in card
    assert str(tmp_path) not in card


def test_no_folder_is_replaced(exported):
    run, heads, _ = exported("regression")
    before = {path: path.read_bytes() for path in heads.rglob("*") if path.is_file()}
    assert f"{heads / 'sst'}: there already" in tiny.script("--export", run, heads).error
    assert {path: path.read_bytes() for path in heads.rglob("*") if path.is_file()} == before


@pytest.fixture
def model_of(tiny_model):
    def make(*names, **choices):
        return MultitaskBERT(BertModel.from_pretrained(tiny_model), {name: TASKS[name] for name in names}, **choices)

    return make


@pytest.mark.parametrize(
    ("task", "choices", "says"),
    [
        ("sst", {"sst_head": "coral"}, "has a CoralHead"),
        ("sst", {"pooling": "mean"}, "--pooling mean"),
        ("sts", {"pairs": "cosine", "sts_head": "cosine"}, "encodes the two texts of a pair separately"),
        ("quora", {"pairs": "concat"}, "encodes the two texts of a pair separately"),
        ("sts", {"sts_head": "classification", "sts_predict": "expectation"}, "the mean of its classes"),
    ],
)
def test_what_the_pipeline_cannot_say_is_refused(model_of, task, choices, says):
    assert says in objection(model_of(task, **choices), TASKS[task])


def test_a_shared_head_is_refused(model_of):
    model = model_of("rte", "mnli", label_scheme="independent")
    assert merging_of("independent", model.tasks)
    assert "one head for all tasks" in objection(model, TASKS["rte"])


def test_separate_pairs_leave_the_other_heads(model_of):
    model = model_of("sst", "quora", pairs="concat")
    assert objection(model, TASKS["sst"]) == ""


def test_a_run_without_any_such_head_is_one_line(tiny_model, tiny_data, tmp_path):
    flags = ("--model", tiny_model, "--data_dir", tiny_data, "--run_dir", tmp_path / "run", "--pooling", "mean")
    assert tiny.script(*flags, "--epochs", 1).code == 0
    line = tiny.script("--export", tmp_path / "run", tmp_path / "heads").error
    assert "no head can be exported: --pooling mean" in line
    assert not (tmp_path / "heads").exists()

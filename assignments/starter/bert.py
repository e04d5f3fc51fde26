"""BERT in the form of the course's starters: padded batches all the way, an additive mask, the course's names.

Shapes: B sequences, T tokens in the longest, H hidden size, A heads, D = H / A size of a head.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

from base_bert import BertPreTrainedModel
from utils import get_extended_attention_mask


class BertSelfAttention(nn.Module):
    """Multi-head self-attention (Vaswani et al. 2017, section 3.2)."""

    def __init__(self, config):
        super().__init__()
        self.num_attention_heads = config.num_attention_heads
        self.attention_head_size = config.hidden_size // config.num_attention_heads
        self.all_head_size = self.num_attention_heads * self.attention_head_size
        self.query = nn.Linear(config.hidden_size, self.all_head_size)
        self.key = nn.Linear(config.hidden_size, self.all_head_size)
        self.value = nn.Linear(config.hidden_size, self.all_head_size)
        self.dropout = nn.Dropout(config.attention_probs_dropout_prob)

    def transform(self, x, linear_layer):
        """x [B, T, H] through a layer, cut into heads -> [B, A, T, D]."""
        B, T = x.shape[:2]
        return linear_layer(x).view(B, T, self.num_attention_heads, self.attention_head_size).transpose(1, 2)

    def attention(self, key, query, value, attention_mask):
        """dropout(softmax(Q K^T / sqrt(D) + mask)) V, the heads side by side again.

        key, query, value [B, A, T, D]; attention_mask [B, 1, 1, T], 0 for a token and a large negative number for a
        pad -> [B, T, H]. The softmax runs over the keys; dropout (self.dropout) acts on the probabilities.
        """
        scores = query @ key.transpose(-2, -1) / math.sqrt(self.attention_head_size) + attention_mask  # [B, A, T, T]
        mixed = self.dropout(F.softmax(scores, dim=-1)) @ value  # [B, A, T, D]
        return mixed.transpose(1, 2).flatten(2)  # [B, T, A, D] -> [B, T, H]

    def forward(self, hidden_states, attention_mask):
        """hidden_states [B, T, H], attention_mask [B, 1, 1, T] -> [B, T, H]."""
        key_layer = self.transform(hidden_states, self.key)
        value_layer = self.transform(hidden_states, self.value)
        query_layer = self.transform(hidden_states, self.query)
        return self.attention(key_layer, query_layer, value_layer, attention_mask)


class BertLayer(nn.Module):
    """One transformer layer (Vaswani et al. 2017, section 3.1), LayerNorm after each sum as in BERT."""

    def __init__(self, config):
        super().__init__()
        self.self_attention = BertSelfAttention(config)
        self.attention_dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.attention_layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.attention_dropout = nn.Dropout(config.hidden_dropout_prob)
        self.interm_dense = nn.Linear(config.hidden_size, config.intermediate_size)
        self.interm_af = F.gelu
        self.out_dense = nn.Linear(config.intermediate_size, config.hidden_size)
        self.out_layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.out_dropout = nn.Dropout(config.hidden_dropout_prob)

    def add_norm(self, input, output, dense_layer, dropout, ln_layer):
        """LayerNorm(input + dropout(dense(output))).

        input [B, T, H]: what went into the part; output [B, T, ...]: what came out of it, which dense_layer brings back
        to H. dropout and ln_layer are the modules to be used.
        """
        return ln_layer(input + dropout(dense_layer(output)))

    def forward(self, hidden_states, attention_mask):
        """y = add_norm of x and attention(x), with the attention_* modules;
        z = add_norm of y and GELU(interm_dense(y)), with the out_* modules.

        hidden_states x [B, T, H], attention_mask [B, 1, 1, T] -> z [B, T, H].
        """
        attended = self.self_attention(hidden_states, attention_mask)
        y = self.add_norm(
            hidden_states, attended, self.attention_dense, self.attention_dropout, self.attention_layer_norm
        )
        inner = self.interm_af(self.interm_dense(y))
        return self.add_norm(y, inner, self.out_dense, self.out_dropout, self.out_layer_norm)


class BertModel(BertPreTrainedModel):
    """The encoder: embeddings, the layers, and the pooler tanh(dense(h of [CLS]))."""

    def __init__(self, config):
        super().__init__(config)
        self.word_embedding = nn.Embedding(config.vocab_size, config.hidden_size, padding_idx=config.pad_token_id)
        self.pos_embedding = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.tk_type_embedding = nn.Embedding(config.type_vocab_size, config.hidden_size)
        self.embed_layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.embed_dropout = nn.Dropout(config.hidden_dropout_prob)
        self.register_buffer("position_ids", torch.arange(config.max_position_embeddings).unsqueeze(0))
        self.bert_layers = nn.ModuleList([BertLayer(config) for _ in range(config.num_hidden_layers)])
        self.pooler_dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.pooler_af = nn.Tanh()
        self.init_weights()

    def embed(self, input_ids):
        """dropout(LayerNorm(word + position + token type)): input_ids [B, T] -> [B, T, H].

        Positions are self.position_ids up to T; every token is of type 0.
        """
        positions = self.position_ids[:, : input_ids.shape[1]]
        types = torch.zeros_like(input_ids)
        total = self.word_embedding(input_ids) + self.pos_embedding(positions) + self.tk_type_embedding(types)
        return self.embed_dropout(self.embed_layer_norm(total))

    def encode(self, hidden_states, attention_mask):
        """[B, T, H] through all layers; attention_mask [B, T] of 1 and 0."""
        extended = get_extended_attention_mask(attention_mask, self.dtype)
        for layer in self.bert_layers:
            hidden_states = layer(hidden_states, extended)
        return hidden_states

    def forward(self, input_ids, attention_mask):
        """Two [B, T] -> {"last_hidden_state": [B, T, H], "pooler_output": [B, H]}."""
        hidden = self.encode(self.embed(input_ids), attention_mask)
        return {"last_hidden_state": hidden, "pooler_output": self.pooler_af(self.pooler_dense(hidden[:, 0]))}

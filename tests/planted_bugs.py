"""Bugs that students make in a1 to a4, planted in the reference.

BUGS: (assignment, part, file, what stands in the reference, what a student wrote, words that a failing check's message
must have, or None where it is enough that the bug is caught).
"""

BERT = "bert.py"
OPT = "optimizer.py"
HEADS = "minbert/layers/heads.py"
PAIRS = "minbert/layers/pairs.py"
SEMI = "minbert/methods/semi_supervised.py"
MASK = "minbert/masked_lm/masking.py"
SURGERY = "minbert/methods/gradient_surgery.py"
SCHED = "minbert/methods/schedules.py"
REG = "minbert/methods/regularizers.py"
SCORES = "(q / math.sqrt(q.shape[-1])) @ k.transpose(-2, -1)"
MASKED = "        if is_pad is not None:\n            scores = scores.masked_fill(is_pad, -math.inf)\n"
MIXED = "return self.dropout(scores.softmax(dim=-1)) @ v"
GRID = """block.pad(qkv).view(block.b, block.t, 3, self.num_heads, -1)  # [b, t, 3H] -> [b, t, 3, A, D]
            q, k, v = grid.permute(2, 0, 3, 1, 4)  # three of [b, A, t, D]
            heads = self.attention(q, k, v, block.is_pad)  # [b, A, t, D]
"""
AT_ONCE = """block.pad(qkv)
            q, k, v = (each.reshape(block.b, self.num_heads, block.t, -1) for each in grid.chunk(3, -1))
            heads = self.attention(q, k, v, block.is_pad){}
"""
CAT = "torch.cat([self.query(x), self.key(x), self.value(x)], dim=-1)"
UNPAD = "mixed.append(block.unpad(heads.transpose(1, 2)))"
FIRST = "x = self.attention_layer_norm(x + self.attention_dropout(attended))"
LAST = "return self.out_layer_norm(x + self.out_dropout(self.out_dense(inner)))"
GELU = "inner = F.gelu(self.interm_dense(x))"
SUM = "self.word_embedding(ids) + self.pos_embedding(positions) + self.tk_type_embedding(types)"
TABLES = "self.word_embedding(ids) + self.pos_embedding(types) + self.tk_type_embedding(positions.clamp(max=1))"
EMBEDDED = "return self.embed_dropout(self.embed_layer_norm(total))"
LOOP = "            hidden = layer(hidden, packing)\n        return hidden"
POOL = "return torch.tanh(self.pooler_dense(cls))"
MEAN = "m.lerp_(gradient, 1 - beta1)"
SQUARE = "v.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)"
DECAY = "parameter.add_(parameter, alpha=-decay)"
BIAS = "step_size *= math.sqrt(1 - betas[1] ** step) / (1 - betas[0] ** step)"

BUGS = [
    ("a1", "attention", BERT, SCORES, "q @ k.transpose(-2, -1)", "not divided by sqrt(D)"),
    ("a1", "attention", BERT, SCORES, "q @ k.transpose(-2, -1) / q.shape[-1]", "divided by D"),
    ("a1", "attention", BERT, SCORES, "q @ k.transpose(-2, -1) / math.sqrt(q.shape[1] * q.shape[-1])", "sqrt(H)"),
    ("a1", "attention", BERT, SCORES, "q @ k.transpose(-2, -1) * math.sqrt(q.shape[-1])", "multiplied by sqrt(D)"),
    ("a1", "attention", BERT, SCORES, "k @ q.transpose(-2, -1) / math.sqrt(q.shape[-1])", "q and k are swapped"),
    ("a1", "attention", BERT, "softmax(dim=-1)", "softmax(dim=-2)", "over the queries"),
    ("a1", "attention", BERT, "softmax(dim=-1)", "softmax(dim=1)", "over the heads"),
    ("a1", "attention", BERT, "softmax(dim=-1)", "sigmoid()", "sigmoid"),
    ("a1", "attention", BERT, "softmax(dim=-1)", "exp()", "not divided by their sum"),
    ("a1", "attention", BERT, MASKED, "", "the mask is not used"),
    ("a1", "attention", BERT, "masked_fill(is_pad, -math.inf)", "masked_fill(is_pad, -10)", "become -10"),
    ("a1", "attention", BERT, "masked_fill(is_pad, -math.inf)", "sub(10 * is_pad.double())", "10 is taken off"),
    ("a1", "attention", BERT, MIXED, "self.dropout(scores.softmax(dim=-1)) @ v", "is a return missing"),
    ("a1", "attention", BERT, MIXED, f"return ({MIXED[7:]}).transpose(1, 2).flatten(2)", "[b, A, t, D]"),
    (
        "a1",
        "attention",
        BERT,
        MIXED,
        "return self.dropout(scores.float().softmax(dim=-1)).double() @ v",
        "6 or 7 digits",
    ),
    ("a1", "attention", BERT, "masked_fill(is_pad, -math.inf)", "masked_fill(is_pad, 0.0)", "score like any other"),
    ("a1", "attention", BERT, "masked_fill(is_pad, -math.inf)", "masked_fill(~is_pad, -math.inf)", "inverted"),
    (
        "a1",
        "attention",
        BERT,
        "            scores = scores.masked_fill(is_pad, -math.inf)\n        " + MIXED,
        "            return self.dropout(scores.softmax(-1).masked_fill(is_pad, 0)) @ v\n        " + MIXED,
        "mask comes after the softmax",
    ),
    (
        "a1",
        "attention",
        BERT,
        "scores.masked_fill(is_pad, -math.inf)",
        "scores + is_pad",
        "1 more instead of minus infinity",
    ),
    ("a1", "attention", BERT, MIXED, "return scores.softmax(dim=-1) @ v", "there is no dropout"),
    ("a1", "attention", BERT, MIXED, "return self.dropout(scores).softmax(dim=-1) @ v", "on the scores"),
    ("a1", "attention", BERT, MIXED, "return self.dropout(scores.softmax(dim=-1) @ v)", "on the mixture"),
    ("a1", "attention", BERT, MIXED, "return F.dropout(scores.softmax(dim=-1), self.dropout.p) @ v", "eval mode"),
    (
        "a1",
        "attention",
        BERT,
        MIXED,
        "return F.dropout(scores.softmax(dim=-1), 0.1, self.training) @ v",
        "rate of its own",
    ),
    ("a1", "attention", BERT, MIXED, "return self.dropout(scores.softmax(dim=-1)) @ k", "keys are mixed"),
    ("a1", "attention", BERT, MIXED, "return self.dropout(scores.softmax(dim=-1).detach()) @ v", "detached"),
    (
        "a1",
        "attention",
        BERT,
        "scores.softmax(dim=-1)",
        "(scores.exp() / scores.exp().sum(-1, keepdim=True))",
        "exp overflows",
    ),
    (
        "a2",
        "self_attention",
        BERT,
        CAT,
        "torch.cat([self.key(x), self.query(x), self.value(x)], dim=-1)",
        "query and key are swapped",
    ),
    (
        "a2",
        "self_attention",
        BERT,
        CAT,
        "torch.cat([self.query(x), self.value(x), self.key(x)], dim=-1)",
        "key and value are swapped",
    ),
    (
        "a2",
        "self_attention",
        BERT,
        CAT,
        "torch.cat([self.query(x), self.key(x), self.key(x)], dim=-1)",
        "values come from self.key",
    ),
    (
        "a2",
        "self_attention",
        BERT,
        UNPAD,
        "mixed.append(block.unpad(heads.reshape(block.b, block.t, -1)))",
        "without the transpose",
    ),
    ("a2", "self_attention", BERT, UNPAD, "mixed.append(block.unpad(heads.permute(0, 2, 3, 1)))", "D before A"),
    ("a2", "self_attention", BERT, GRID, AT_ONCE.format(""), "viewed as [b, A, t, D] at once"),
    ("a2", "self_attention", BERT, GRID, AT_ONCE.format(".transpose(1, 2)"), "viewed as [b, A, t, D] at once"),
    ("a2", "self_attention", BERT, CAT, "torch.cat([self.query(x), self.key(x), x], dim=-1)", "values are x itself"),
    ("a2", "self_attention", BERT, "in packing.blocks:", "in reversed(packing.blocks):", "stand in reversed order"),
    ("a2", "layer", BERT, GELU, "inner = self.out_dropout(F.gelu(self.interm_dense(x)))", "a third dropout"),
    ("a3", "embed", BERT, SUM, TABLES, "tables of positions and of token types"),
    (
        "a3",
        "encode",
        BERT,
        LOOP,
        LOOP.replace("layer(hidden, packing)", "hidden + layer(hidden, packing)"),
        "once more",
    ),
    ("a4", "update", OPT, MEAN, "m = m * beta1 + (1 - beta1) * gradient", "m is not kept"),
    ("a4", "update", OPT, "v.sqrt().add_(eps)", "v.sqrt_().add(eps)", "its own root"),
    ("a4", "update", OPT, DECAY, "parameter.add_(parameter, alpha=-decay * step_size)", "multiplied by the step size"),
    ("a4", "step_size", OPT, BIAS, BIAS.replace("** step", "** (step + 1)"), "one too large"),
    (
        "a4",
        "step_size",
        OPT,
        "return step_size, lr * weight_decay",
        "return lr * weight_decay, step_size",
        "in the other order",
    ),
    (
        "a4",
        "update",
        OPT,
        f"    {MEAN}\n    {SQUARE}",
        f"    parameter, m, v = parameter.clone(), m.clone(), v.clone()\n    {MEAN}\n    {SQUARE}",
        "p, m and v do not change",
    ),
    ("a2", "self_attention", BERT, "block.is_pad)  # [b, A", "None)  # [b, A", "pads of the block"),
    (
        "a2",
        "self_attention",
        BERT,
        "return torch.cat(mixed)",
        "return torch.cat(mixed) + x",
        "residual belongs to the layer",
    ),
    (
        "a2",
        "layer",
        BERT,
        FIRST,
        "x = self.out_layer_norm(x + self.attention_dropout(attended))",
        "out_layer_norm is used for both",
    ),
    (
        "a2",
        "layer",
        BERT,
        LAST,
        LAST.replace("out_layer_norm", "attention_layer_norm"),
        "attention_layer_norm is used for both",
    ),
    ("a2", "self_attention", BERT, "return torch.cat(mixed)", "return torch.cat(mixed[::-1])", "in reversed order"),
    ("a2", "layer", BERT, FIRST, "x = self.attention_layer_norm(self.attention_dropout(attended))", "first residual"),
    (
        "a2",
        "layer",
        BERT,
        LAST,
        "return self.out_layer_norm(self.out_dropout(self.out_dense(inner)))",
        "second residual",
    ),
    (
        "a2",
        "layer",
        BERT,
        FIRST,
        "x = x + self.attention_layer_norm(self.attention_dropout(attended))",
        "acts before x is added",
    ),
    ("a2", "layer", BERT, FIRST, "x = x + self.attention_dropout(attended)", "first LayerNorm is missing"),
    (
        "a2",
        "layer",
        BERT,
        FIRST,
        "x = self.attention_layer_norm(self.attention_dropout(x + attended))",
        "residual included",
    ),
    ("a2", "layer", BERT, FIRST, "x = self.attention_layer_norm(x + attended)", "dropout is missing"),
    (
        "a2",
        "layer",
        BERT,
        FIRST,
        "x = self.attention_dropout(self.attention_layer_norm(x + attended))",
        "after LayerNorm",
    ),
    (
        "a2",
        "layer",
        BERT,
        LAST,
        "return self.out_layer_norm(x + self.out_dense(self.out_dropout(inner)))",
        "before the dense layer",
    ),
    ("a2", "layer", BERT, GELU, "inner = F.gelu(self.interm_dense(x), approximate='tanh')", "tanh approximation"),
    ("a2", "layer", BERT, GELU, "inner = F.relu(self.interm_dense(x))", "ReLU"),
    ("a2", "layer", BERT, GELU, "inner = self.interm_dense(x)", "GELU is missing"),
    (
        "a2",
        "layer",
        BERT,
        "attended = self.attention_dense(mixed)  # [N, H]",
        "attended = mixed",
        "attention_dense is missing",
    ),
    (
        "a2",
        "layer",
        BERT,
        "        " + FIRST + "\n        " + GELU,
        "        y, x = x, self.attention_layer_norm(x + self.attention_dropout(attended))\n        "
        + GELU
        + "\n        x = y",
        "layer's input x",
    ),
    (
        "a3",
        "embed",
        BERT,
        SUM,
        "self.word_embedding(ids) + self.tk_type_embedding(types)",
        "position embeddings are missing",
    ),
    (
        "a3",
        "embed",
        BERT,
        SUM,
        "self.word_embedding(ids) + self.pos_embedding(positions)",
        "token-type embeddings are missing",
    ),
    ("a3", "embed", BERT, "self.pos_embedding(positions)", "self.pos_embedding(positions + 1)", "count from 1"),
    ("a3", "embed", BERT, "self.tk_type_embedding(types)", "self.tk_type_embedding(0 * types)", "types are not used"),
    ("a3", "embed", BERT, EMBEDDED, "return self.embed_dropout(total)", "LayerNorm is missing"),
    ("a3", "embed", BERT, EMBEDDED, "return self.embed_layer_norm(self.embed_dropout(total))", "before LayerNorm"),
    ("a3", "embed", BERT, EMBEDDED, "return self.embed_layer_norm(total)", "dropout is missing"),
    ("a3", "encode", BERT, LOOP, "            out = layer(hidden, packing)\n        return out", "reads the embedding"),
    ("a3", "encode", BERT, LOOP, "            return layer(hidden, packing)", "only the first layer"),
    ("a3", "pool", BERT, POOL, "return self.pooler_dense(cls)", "tanh is missing"),
    ("a3", "pool", BERT, POOL, "return self.pooler_dense(torch.tanh(cls))", "before the dense"),
    ("a3", "pool", BERT, POOL, "return F.relu(self.pooler_dense(cls))", "ReLU"),
    ("a4", "update", OPT, MEAN, "m.mul_(beta1).add_(gradient)", "(1 - beta1) is missing"),
    ("a4", "update", OPT, MEAN, "m.lerp_(gradient, beta1)", "swapped in m"),
    ("a4", "update", OPT, MEAN, "m = beta1 * m + (1 - beta1) * gradient", "m is not kept"),
    ("a4", "update", OPT, SQUARE, "v.mul_(beta2).add_(gradient, alpha=1 - beta2)", "v takes g"),
    ("a4", "update", OPT, SQUARE, "v.mul_(beta2).addcmul_(m, m, value=1 - beta2)", "square of m"),
    ("a4", "update", OPT, "v.sqrt().add_(eps)", "v.add(eps).sqrt()", "eps stands under the root"),
    ("a4", "update", OPT, "v.sqrt().add_(eps)", "v.sqrt()", "eps is missing"),
    ("a4", "update", OPT, "v.sqrt().add_(eps)", "v.add(eps)", "root of v is missing"),
    ("a4", "update", OPT, "value=-step_size", "value=step_size", "added to p"),
    ("a4", "update", OPT, "addcdiv_(m,", "addcdiv_(gradient,", "along g"),
    (
        "a4",
        "update",
        OPT,
        "    m.lerp_(gradient, 1 - beta1)\n",
        (
            "    if decay:\n        parameter.add_(parameter, alpha=-decay)\n"
            "        decay = 0\n    m.lerp_(gradient, 1 - beta1)\n"
        ),
        "the decay saw the old p",
    ),
    ("a4", "update", OPT, DECAY, "parameter.add_(parameter, alpha=decay)", "decay is added"),
    ("a4", "update", OPT, DECAY, "pass", "no weight decay"),
    ("a4", "step_size", OPT, BIAS, "pass", "no bias correction"),
    ("a4", "step_size", OPT, BIAS, "step_size /= 1 - betas[0] ** step", "only m is corrected"),
    (
        "a4",
        "step_size",
        OPT,
        BIAS,
        "step_size *= (1 - betas[1] ** step) / (1 - betas[0] ** step)",
        "root of 1 - beta2^t",
    ),
    ("a4", "step_size", OPT, BIAS, BIAS.replace("** step", "** (step - 1)"), None),
    (
        "a4",
        "step_size",
        OPT,
        "return step_size, lr * weight_decay",
        "return step_size, weight_decay",
        "weight_decay alone",
    ),
    (
        "a4",
        "step_size",
        OPT,
        "    if correct_bias:\n        step_size",
        "    if True:\n        step_size",
        "not heeded",
    ),
]

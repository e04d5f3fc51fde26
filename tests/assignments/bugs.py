"""Bugs of the kind that students make, planted in the reference, and correct code that is written in another way.

BUGS: (assignment, part, file, what stands in the reference, what a student wrote, words that the first failing check's
message must have, or None where it is enough that the bug is caught). OTHERS: (assignment, part, file, what stands in the
reference, another correct way).
"""

BERT, OPT, HEADS, PAIRS = "bert.py", "optimizer.py", "minbert/layers/heads.py", "minbert/layers/pairs.py"
SEMI, MASK, SURGERY = "minbert/methods/semi_supervised.py", "minbert/masked_lm/masking.py", "minbert/methods/gradient_surgery.py"
SCHED, REG, LABEL = "minbert/methods/schedules.py", "minbert/methods/regularizers.py", "labeling.py"

SCORES = "(q / math.sqrt(q.shape[-1])) @ k.transpose(-2, -1)"
MASKED = "        if is_pad is not None:\n            scores = scores.masked_fill(is_pad, -math.inf)\n"
MIXED = "return self.dropout(scores.softmax(dim=-1)) @ v"
GRID = "grid = block.pad(qkv).view(block.b, block.t, 3, self.num_heads, -1)"
CAT = "torch.cat([self.query(x), self.key(x), self.value(x)], dim=-1)"
UNPAD = "mixed.append(block.unpad(heads.transpose(1, 2)))"
FIRST = "x = self.attention_layer_norm(x + self.attention_dropout(attended))"
LAST = "return self.out_layer_norm(x + self.out_dropout(self.out_dense(inner)))"
GELU = "inner = F.gelu(self.interm_dense(x))"
SUM = "self.word_embedding(ids) + self.pos_embedding(positions) + self.tk_type_embedding(types)"
EMBEDDED = "return self.embed_dropout(self.embed_layer_norm(total))"
LOOP = "            hidden = layer(hidden, packing)\n        return hidden"
POOL = "return torch.tanh(self.pooler_dense(cls))"
MEAN, SQUARE = "m.lerp_(gradient, 1 - beta1)", "v.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)"
STEP = "parameter.addcdiv_(m, v.sqrt().add_(eps), value=-step_size)"
DECAY = "parameter.add_(parameter, alpha=-decay)"
BIAS = "step_size *= math.sqrt(1 - betas[1] ** step) / (1 - betas[0] ** step)"
CROSS = 'return F.cross_entropy(logits, self.class_of(labels), reduction="none")'
BINARY = 'F.binary_cross_entropy_with_logits(logits.squeeze(-1), labels.to(logits.dtype), reduction="none")'
KL = 'losses = F.kl_div(student, target, log_target=True, reduction="none").sum(dim=-1)'
PROJECT = "                weights[i, j] -= against / products[j, j].clamp_min(smallest)"

BUGS = [
    # a1: attention
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
    ("a1", "attention", BERT, "masked_fill(is_pad, -math.inf)", "masked_fill(is_pad, 0.0)", "score like any other"),
    ("a1", "attention", BERT, "masked_fill(is_pad, -math.inf)", "masked_fill(~is_pad, -math.inf)", "inverted"),
    ("a1", "attention", BERT, "            scores = scores.masked_fill(is_pad, -math.inf)\n        " + MIXED,
     "            return self.dropout(scores.softmax(-1).masked_fill(is_pad, 0)) @ v\n        " + MIXED, "mask comes after the softmax"),
    ("a1", "attention", BERT, "scores.masked_fill(is_pad, -math.inf)", "scores + is_pad", "1 more instead of minus infinity"),
    ("a1", "attention", BERT, MIXED, "return scores.softmax(dim=-1) @ v", "there is no dropout"),
    ("a1", "attention", BERT, MIXED, "return self.dropout(scores).softmax(dim=-1) @ v", "on the scores"),
    ("a1", "attention", BERT, MIXED, "return self.dropout(scores.softmax(dim=-1) @ v)", "on the mixture"),
    ("a1", "attention", BERT, MIXED, "return F.dropout(scores.softmax(dim=-1), self.dropout.p) @ v", "eval mode"),
    ("a1", "attention", BERT, MIXED, "return F.dropout(scores.softmax(dim=-1), 0.1, self.training) @ v", "rate of its own"),
    ("a1", "attention", BERT, MIXED, "return self.dropout(scores.softmax(dim=-1)) @ k", "keys are mixed"),
    ("a1", "attention", BERT, MIXED, "return self.dropout(scores.softmax(dim=-1).detach()) @ v", "detached"),
    ("a1", "attention", BERT, "scores.softmax(dim=-1)", "(scores.exp() / scores.exp().sum(-1, keepdim=True))", "NaN"),
    # a2: the layer
    ("a2", "self_attention", BERT, CAT, "torch.cat([self.key(x), self.query(x), self.value(x)], dim=-1)", "query and key are swapped"),
    ("a2", "self_attention", BERT, CAT, "torch.cat([self.query(x), self.value(x), self.key(x)], dim=-1)", "key and value are swapped"),
    ("a2", "self_attention", BERT, CAT, "torch.cat([self.query(x), self.key(x), self.key(x)], dim=-1)", "values come from self.key"),
    ("a2", "self_attention", BERT, UNPAD, "mixed.append(block.unpad(heads.reshape(block.b, block.t, -1)))", "without the transpose"),
    ("a2", "self_attention", BERT, UNPAD, "mixed.append(block.unpad(heads.permute(0, 2, 3, 1)))", "D before A"),
    ("a2", "self_attention", BERT, "block.is_pad)  # [b, A", "None)  # [b, A", "pads of the block"),
    ("a2", "self_attention", BERT, "return torch.cat(mixed)", "return torch.cat(mixed) + x", "residual belongs to the layer"),
    ("a2", "layer", BERT, FIRST, "x = self.out_layer_norm(x + self.attention_dropout(attended))", "out_layer_norm is used for both"),
    ("a2", "layer", BERT, LAST, LAST.replace("out_layer_norm", "attention_layer_norm"), "attention_layer_norm is used for both"),
    ("a2", "layer", BERT, FIRST, "x = self.attention_layer_norm(self.attention_dropout(attended))", "first residual"),
    ("a2", "layer", BERT, LAST, "return self.out_layer_norm(self.out_dropout(self.out_dense(inner)))", "second residual"),
    ("a2", "layer", BERT, FIRST, "x = x + self.attention_layer_norm(self.attention_dropout(attended))", "acts before x is added"),
    ("a2", "layer", BERT, FIRST, "x = x + self.attention_dropout(attended)", "first LayerNorm is missing"),
    ("a2", "layer", BERT, FIRST, "x = self.attention_layer_norm(self.attention_dropout(x + attended))", "residual included"),
    ("a2", "layer", BERT, FIRST, "x = self.attention_layer_norm(x + attended)", "dropout is missing"),
    ("a2", "layer", BERT, FIRST, "x = self.attention_dropout(self.attention_layer_norm(x + attended))", "after LayerNorm"),
    ("a2", "layer", BERT, LAST, "return self.out_layer_norm(x + self.out_dense(self.out_dropout(inner)))", "before the dense layer"),
    ("a2", "layer", BERT, GELU, "inner = F.gelu(self.interm_dense(x), approximate='tanh')", "tanh approximation"),
    ("a2", "layer", BERT, GELU, "inner = F.relu(self.interm_dense(x))", "ReLU"),
    ("a2", "layer", BERT, GELU, "inner = self.interm_dense(x)", "GELU is missing"),
    ("a2", "layer", BERT, "attended = self.attention_dense(self.self_attention(x, packing))", "attended = self.self_attention(x, packing)", "attention_dense is missing"),
    ("a2", "layer", BERT, "        " + FIRST + "\n        " + GELU, "        y, x = x, self.attention_layer_norm(x + self.attention_dropout(attended))\n        " + GELU + "\n        x = y", "layer's input x"),
    # a3: embedding and model
    ("a3", "embed", BERT, SUM, "self.word_embedding(ids) + self.tk_type_embedding(types)", "position embeddings are missing"),
    ("a3", "embed", BERT, SUM, "self.word_embedding(ids) + self.pos_embedding(positions)", "token-type embeddings are missing"),
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
    # a4: AdamW
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
    ("a4", "update", OPT, "    m.lerp_(gradient, 1 - beta1)\n", "    if decay:\n        parameter.add_(parameter, alpha=-decay)\n        decay = 0\n    m.lerp_(gradient, 1 - beta1)\n", "the decay saw the old p"),
    ("a4", "update", OPT, DECAY, "parameter.add_(parameter, alpha=decay)", "decay is added"),
    ("a4", "update", OPT, DECAY, "pass", "no weight decay"),
    ("a4", "step_size", OPT, BIAS, "pass", "no bias correction"),
    ("a4", "step_size", OPT, BIAS, "step_size /= 1 - betas[0] ** step", "only m is corrected"),
    ("a4", "step_size", OPT, BIAS, "step_size *= (1 - betas[1] ** step) / (1 - betas[0] ** step)", "root of 1 - beta2^t"),
    ("a4", "step_size", OPT, BIAS, BIAS.replace("** step", "** (step - 1)"), None),
    ("a4", "step_size", OPT, "return step_size, lr * weight_decay", "return step_size, weight_decay", "weight_decay alone"),
    ("a4", "step_size", OPT, "    if correct_bias:\n        step_size", "    if True:\n        step_size", "not heeded"),
    # a5: sentiment
    ("a5", "losses", HEADS, CROSS, "return F.cross_entropy(logits, self.class_of(labels))", "shape"),
    ("a5", "losses", HEADS, CROSS, 'return F.nll_loss(logits, self.class_of(labels), reduction="none")', "not of log softmax"),
    ("a5", "losses", HEADS, CROSS, 'return F.cross_entropy(logits.softmax(-1), self.class_of(labels), reduction="none")', "taken twice"),
    ("a5", "log_probabilities", HEADS, "return logits.log_softmax(dim=-1)", "return logits.softmax(dim=-1)", "logarithm is asked for"),
    ("a5", "log_probabilities", HEADS, "return logits.log_softmax(dim=-1)", "return logits.log_softmax(dim=0)", "over the examples"),
    ("a5", "joint", HEADS, "        return join_pair(self.join, u, v)", "        return join_pair(self.join, v, u)", "swapped"),
    # a6: heads and pairs
    ("a6", "absdiff", PAIRS, "return (u - v).abs()", "return u - v", "sign is kept"),
    ("a6", "concat", PAIRS, "torch.cat([u, v], dim=-1)", "torch.cat([v, u], dim=-1)", "v stands before u"),
    ("a6", "cosine", PAIRS, "F.cosine_similarity(u, v, dim=-1).unsqueeze(-1)", "F.cosine_similarity(u, v, dim=-1)", "shape"),
    ("a6", "dot_attention", PAIRS, " / x.shape[-1] ** 0.5", "", "not divided by sqrt(H)"),
    ("a6", "binary_losses", HEADS, BINARY, BINARY.replace("labels.to", "(1 - labels).to"), "swapped"),
    ("a6", "binary_log_probabilities", HEADS, "[F.logsigmoid(-logits), F.logsigmoid(logits)]", "[F.logsigmoid(logits), F.logsigmoid(-logits)]", "columns are swapped"),
    ("a6", "regression_predict", HEADS, "return self.low + (self.high - self.low) * logits.squeeze(-1).sigmoid()", "return self.low + self.high * logits.squeeze(-1).sigmoid()", "high - low"),
    ("a6", "class_of_score", HEADS, "(steps + (0.5 + SLACK)).floor().long()", "steps.round().long()", "even number"),
    # a7: pseudo-labels
    ("a7", "restricted", LABEL, "return np.divide(kept, total, out=equal, where=total > 0)", "return kept", "not divided by their sum"),
    ("a7", "rounded_if", LABEL, 'return np.eye(values.shape[1])[values.argmax(1)] if scheme.unknown == "rounded" else values', "return np.eye(values.shape[1])[values.argmax(1)]", "every scheme rounds"),
    ("a7", "decode", LABEL, "scores = np.stack([reduce[rule](", "scores = np.stack([np.max(", "highest single class"),
    ("a7", "targets", LABEL, "values = _restricted(values, _answers(merging, task, labels))", "values = _answers(merging, task, labels).astype(float)", "share 1 among them"),
    # a8: unlabelled text
    ("a8", "uda_loss", SEMI, "original = head.log_probabilities(original_logits.detach())", "original = head.log_probabilities(original_logits)", "target gets a gradient"),
    ("a8", "uda_loss", SEMI, "    target = sharpen(original, temperature)\n", "    target, student = original, sharpen(student, temperature)\n", "wrong side"),
    ("a8", "uda_loss", SEMI, "kept = original.amax", "kept = target.amax", "before sharpening"),
    ("a8", "uda_loss", SEMI, KL, 'losses = F.kl_div(target, student, log_target=True, reduction="none").sum(dim=-1)', "KL(student || target)"),
    ("a8", "uda_loss", SEMI, KL, 'losses = F.kl_div(student, target, log_target=True, reduction="none").mean(dim=-1)', "mean over the classes"),
    ("a8", "tsa_loss", SEMI, "kept = probability <= threshold", "kept = probability > threshold", "other way about"),
    ("a8", "sharpen", SEMI, "log_probabilities / temperature", "log_probabilities * temperature", "it divides"),
    ("a8", "consistency", SEMI, "    teacher_logits = teacher_logits.detach()\n", "", "teacher gets a gradient"),
    ("a8", "ema_update", SEMI, "mean.lerp_(now, 1 - decay)", "mean.lerp_(now, decay)", "d and 1 - d are swapped"),
    ("a8", "ramp_up", SEMI, "math.exp(-5 * (1 - done) ** 2)", "math.exp(-5 * (1 - done))", "square is missing"),
    # a9: masked LM
    ("a9", "mask_tokens", MASK, "    fate = random.random(len(chosen))  # [M]", "    fate = random.random(len(ids))[chosen] * 0.15", "every chosen token becomes [MASK]"),
    ("a9", "mask_tokens", MASK, "chosen[fate >= 0.9]", "chosen[fate >= 0.8]", "20 % of the chosen become random"),
    ("a9", "mask_tokens", MASK, " & ~special)", ")", "special tokens are chosen"),
    ("a9", "mask_tokens", MASK, "hidden, swapped = ids.copy(),", "hidden, swapped = ids,", "work on a copy"),
    ("a9", "masked_batch", MASK, "    rows = rows[np.argsort(sequences.lengths[rows], kind=\"stable\")]", "    rows = np.sort(rows)", None),
    ("a9", "perplexity", MASK, "torch.cat([losses_of(*batch) for batch in exam])", "torch.stack([losses_of(*batch).mean() for batch in exam])", "mean of the batches' means"),
    ("a9", "predict", BERT, "self.transform_layer_norm(F.gelu(self.transform_dense(hidden)))", "F.gelu(self.transform_layer_norm(self.transform_dense(hidden)))", "LayerNorm comes before GELU"),
    # a10: schedules and PCGrad
    ("a10", "linear", OPT, "rise = (step + 1) / (peak + 1)", "rise = step / max(peak, 1) if peak else 1.0", "off-by-one"),
    ("a10", "linear", OPT, "fall = (total_steps - step) / (total_steps - peak)", "fall = (total_steps - 1 - step) / max(total_steps - 1 - peak, 1)", "off-by-one"),
    ("a10", "linear", OPT, "return max(0.0, min(rise, fall))", "return min(rise, fall)", "below 0"),
    ("a10", "project", SURGERY, "products[j, j]", "products[j, j].sqrt()", "by its square"),
    ("a10", "project", SURGERY, "weights[i, j] -= against", "weights[i, j] += against", "taken off"),
    ("a10", "project", SURGERY, "return weights.sum(dim=0) @ gradients", "return weights.mean(dim=0) @ gradients", "mean over the tasks"),
    ("a10", "task_wise", SCHED, "    for task, number in takes.items():", "    for task, number in sorted(takes.items()):", "sorted"),
    ("a10", "drawn", SCHED, "** exponent", "* exponent", "it is a power"),
    # bonus
    ("bonus", "divergence", REG, "((log_p.exp() - log_q.exp()) * (log_p - log_q)).sum", "(log_p.exp() * (log_p - log_q)).sum", "both directions"),
    ("bonus", "r_drop", REG, "return divergence(head, first, second) / 2", "return divergence(head, first, second)", "not halved"),
    ("bonus", "r_drop", REG, "first, second = logits.chunk(2)", "first, second = logits[::2], logits[1::2]", "neighbours"),
    ("bonus", "smoothness", REG, ".clamp(-radius, radius)", "", "not held in the ball"),
]

OTHERS = [
    ("a1", "attention", BERT, SCORES, "torch.einsum('bhqd,bhkd->bhqk', q, k) / q.shape[-1] ** 0.5"),
    ("a1", "attention", BERT, SCORES, "q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5"),
    ("a1", "attention", BERT, "scores.masked_fill(is_pad, -math.inf)", "scores + is_pad.double() * -1e9"),
    ("a1", "attention", BERT, "scores.masked_fill(is_pad, -math.inf)", "scores.masked_fill_(is_pad, torch.finfo(scores.dtype).min)"),
    ("a1", "attention", BERT, MIXED, "return torch.matmul(F.dropout(F.softmax(scores, -1), self.dropout.p, self.training), v)"),
    ("a1", "attention", BERT, MIXED, "e = torch.exp(scores - scores.amax(-1, keepdim=True))\n        return self.dropout(e / e.sum(-1, keepdim=True)) @ v"),
    ("a2", "self_attention", BERT, UNPAD, "mixed.append(block.unpad(heads.permute(0, 2, 1, 3).contiguous().view(block.b, block.t, -1)))"),
    ("a2", "layer", BERT, GELU, "h = self.interm_dense(x)\n        inner = h * (1 + torch.erf(h / 2 ** 0.5)) / 2"),
    ("a2", "layer", BERT, FIRST, "attended = self.attention_dropout(attended)\n        attended += x\n        x = self.attention_layer_norm(attended)"),
    ("a2", "layer", BERT, FIRST, "x = F.layer_norm(x + self.attention_dropout(attended), x.shape[-1:], self.attention_layer_norm.weight, self.attention_layer_norm.bias, self.attention_layer_norm.eps)"),
    ("a3", "embed", BERT, SUM, "self.tk_type_embedding(types) + F.embedding(ids, self.word_embedding.weight) + self.pos_embedding.weight[positions]"),
    ("a4", "update", OPT, MEAN, "m.copy_(beta1 * m + (1 - beta1) * gradient)"),
    ("a4", "update", OPT, SQUARE, "v[...] = beta2 * v + (1 - beta2) * gradient**2"),
    ("a4", "update", OPT, STEP, "parameter.sub_(step_size * m / (torch.sqrt(v) + eps))"),
    ("a4", "update", OPT, DECAY, "parameter.mul_(1 - decay)"),
    ("a4", "step_size", OPT, BIAS, "step_size = lr / (1 - betas[0] ** step) * (1 - betas[1] ** step) ** 0.5"),
    ("a5", "losses", HEADS, CROSS, "return -logits.log_softmax(-1)[torch.arange(len(labels)), labels]"),
    ("a6", "cosine", PAIRS, "F.cosine_similarity(u, v, dim=-1).unsqueeze(-1)", "((u * v).sum(-1) / (u.norm(dim=-1).clamp_min(1e-8) * v.norm(dim=-1).clamp_min(1e-8)))[:, None]"),
    ("a6", "binary_losses", HEADS, BINARY, "F.softplus(logits[:, 0]) - logits[:, 0] * labels"),
    ("a8", "uda_loss", SEMI, KL, "losses = (target.exp() * (target - student)).sum(-1)"),
    ("a8", "sharpen", SEMI, "return F.log_softmax(log_probabilities / temperature, dim=-1)", "p = log_probabilities.exp() ** (1 / temperature)\n    return (p / p.sum(-1, keepdim=True)).log()"),
    ("a9", "perplexity", MASK, "torch.cat([losses_of(*batch) for batch in exam]).double().mean().exp().item()", "float(np.exp(np.mean(np.concatenate([losses_of(*b).numpy() for b in exam]))))"),
    ("a10", "project", SURGERY, "    return weights.sum(dim=0) @ gradients", "    out = [g.clone() for g in gradients]\n    for i, g in enumerate(out):\n        for j, other in enumerate(gradients):\n            if i != j and g @ other < 0:\n                g -= (g @ other) / (other @ other) * other\n    return sum(out)"),
    ("a10", "shuffled", SCHED, "    for place in rng.permutation(len(batches)):\n        yield [batches[place]]", "    rng.shuffle(batches)\n    for batch in batches:\n        yield [tuple(batch)]"),
    ("bonus", "divergence", REG, "((log_p.exp() - log_q.exp()) * (log_p - log_q)).sum(dim=-1).mean()", "(log_p.exp() * (log_p - log_q) + log_q.exp() * (log_q - log_p)).sum(-1).mean()"),
]

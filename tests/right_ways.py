"""Correct code that is written in another way than the reference, which no check may refuse.

OTHERS: (assignment, part, file, what stands in the reference, another correct way).
"""

from planted_bugs import (
    BERT,
    FIRST,
    GELU,
    HEADS,
    MASK,
    MIXED,
    OPT,
    PAIRS,
    REG,
    SCHED,
    SCORES,
    SEMI,
    SUM,
    SURGERY,
    UNPAD,
)
from planted_bugs_of_methods import BINARY, CROSS, KL

MEAN = "m.lerp_(gradient, 1 - beta1)"
SQUARE = "v.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)"
STEP = "parameter.addcdiv_(m, v.sqrt().add_(eps), value=-step_size)"
DECAY = "parameter.add_(parameter, alpha=-decay)"
BIAS = "step_size *= math.sqrt(1 - betas[1] ** step) / (1 - betas[0] ** step)"

OTHERS = [
    ("a1", "attention", BERT, SCORES, "torch.einsum('bhqd,bhkd->bhqk', q, k) / q.shape[-1] ** 0.5"),
    ("a1", "attention", BERT, SCORES, "q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5"),
    ("a1", "attention", BERT, "scores.masked_fill(is_pad, -math.inf)", "scores + is_pad.double() * -1e9"),
    (
        "a1",
        "attention",
        BERT,
        "scores.masked_fill(is_pad, -math.inf)",
        "scores.masked_fill_(is_pad, torch.finfo(scores.dtype).min)",
    ),
    (
        "a1",
        "attention",
        BERT,
        MIXED,
        "return torch.matmul(F.dropout(F.softmax(scores, -1), self.dropout.p, self.training), v)",
    ),
    (
        "a1",
        "attention",
        BERT,
        MIXED,
        (
            "e = torch.exp(scores - scores.amax(-1, keepdim=True))\n"
            "        return self.dropout(e / e.sum(-1, keepdim=True)) @ v"
        ),
    ),
    (
        "a2",
        "self_attention",
        BERT,
        UNPAD,
        "mixed.append(block.unpad(heads.permute(0, 2, 1, 3).contiguous().view(block.b, block.t, -1)))",
    ),
    ("a2", "layer", BERT, GELU, "h = self.interm_dense(x)\n        inner = h * (1 + torch.erf(h / 2 ** 0.5)) / 2"),
    (
        "a2",
        "layer",
        BERT,
        FIRST,
        (
            "attended = self.attention_dropout(attended)\n        attended += x\n"
            "        x = self.attention_layer_norm(attended)"
        ),
    ),
    (
        "a2",
        "layer",
        BERT,
        FIRST,
        (
            "x = F.layer_norm(x + self.attention_dropout(attended), x.shape[-1:], "
            "self.attention_layer_norm.weight, self.attention_layer_norm.bias, self.attention_layer_norm.eps)"
        ),
    ),
    (
        "a3",
        "embed",
        BERT,
        SUM,
        (
            "self.tk_type_embedding(types) + F.embedding(ids, self.word_embedding.weight) + "
            "self.pos_embedding.weight[positions]"
        ),
    ),
    ("a4", "update", OPT, MEAN, "m.copy_(beta1 * m + (1 - beta1) * gradient)"),
    ("a4", "update", OPT, SQUARE, "v[...] = beta2 * v + (1 - beta2) * gradient**2"),
    ("a4", "update", OPT, STEP, "parameter.sub_(step_size * m / (torch.sqrt(v) + eps))"),
    ("a4", "update", OPT, DECAY, "parameter.mul_(1 - decay)"),
    ("a4", "step_size", OPT, BIAS, "step_size = lr / (1 - betas[0] ** step) * (1 - betas[1] ** step) ** 0.5"),
    ("a5", "losses", HEADS, CROSS, "return -logits.log_softmax(-1)[torch.arange(len(labels)), labels]"),
    (
        "a6",
        "cosine",
        PAIRS,
        "F.cosine_similarity(u, v, dim=-1).unsqueeze(-1)",
        "((u * v).sum(-1) / (u.norm(dim=-1).clamp_min(1e-8) * v.norm(dim=-1).clamp_min(1e-8)))[:, None]",
    ),
    ("a6", "binary_losses", HEADS, BINARY, "F.softplus(logits[:, 0]) - logits[:, 0] * labels"),
    ("a8", "uda_loss", SEMI, KL, "losses = (target.exp() * (target - student)).sum(-1)"),
    (
        "a8",
        "sharpen",
        SEMI,
        "return F.log_softmax(log_probabilities / temperature, dim=-1)",
        "p = log_probabilities.exp() ** (1 / temperature)\n    return (p / p.sum(-1, keepdim=True)).log()",
    ),
    (
        "a9",
        "perplexity",
        MASK,
        "double(torch.cat([losses_of(*batch) for batch in exam])).mean().exp().item()",
        "float(np.exp(np.mean(np.concatenate([losses_of(*b).numpy() for b in exam]))))",
    ),
    (
        "a10",
        "project",
        SURGERY,
        "    return weights.sum(dim=0) @ gradients",
        (
            "    out = [g.clone() for g in gradients]\n    for i, g in enumerate(out):\n"
            "        for j, other in enumerate(gradients):\n"
            "            if i != j and g @ other < 0:\n"
            "                g -= (g @ other) / (other @ other) * other\n    return sum(out)"
        ),
    ),
    (
        "a10",
        "shuffled",
        SCHED,
        "    for place in rng.permutation(len(batches)):\n        yield [batches[place]]",
        "    rng.shuffle(batches)\n    for batch in batches:\n        yield [tuple(batch)]",
    ),
    (
        "bonus",
        "divergence",
        REG,
        "((log_p.exp() - log_q.exp()) * (log_p - log_q)).sum(dim=-1).mean()",
        "(log_p.exp() * (log_p - log_q) + log_q.exp() * (log_q - log_p)).sum(-1).mean()",
    ),
]

"""Terms beside the loss that keep the outputs for one input together: under other dropout, or another embedding.

R-Drop: Wu et al. 2021, "R-Drop: Regularized Dropout for Neural Networks" (NeurIPS).
SMART's smoothness term: Jiang et al. 2020, "SMART: Robust and Efficient Fine-Tuning for Pre-trained Natural Language
Models through Principled Regularized Optimization" (ACL); its other half, a proximal point, is no part of this file.

Shapes: B examples, K classes, N real tokens of all sequences together, H hidden size.
"""

import torch


def divergence(head, a, b):
    """How far two outputs of one head are apart: logits a and b, [B, outputs] each -> scalar, the mean over examples.

    Classes: KL(p || q) + KL(q || p) = sum_k (p_k - q_k) (log p_k - log q_k), symmetric, 0 only for p = q. A head with
    one logit counts as two classes (a softmax over one logit would always be 1). A regression: the squared difference
    of the predicted scores. These are Jiang et al.'s l_s (section 3.1). Both sides get a gradient: detach a target.
    """
    a, b = (logits.to(torch.promote_types(logits.dtype, torch.float32)) for logits in (a, b))  # bf16 hides small steps
    if head.classes is None:
        return (head.predict(a) - head.predict(b)).square().mean()
    log_p, log_q = head.log_probabilities(a), head.log_probabilities(b)  # [B, K] each
    # One product, not two KL terms: these would be large beside their sum, and for p near q rounding would eat it.
    return ((log_p.exp() - log_q.exp()) * (log_p - log_q)).sum(dim=-1).mean()


def r_drop(head, logits):
    """R-Drop's term, (KL(p1 || p2) + KL(p2 || p1)) / 2, the mean over examples (Wu et al. 2021, equation 2).

    logits [2B, outputs]: the batch went through the model twice, at once, so rows i and B + i are one example under
    two dropouts. Equations 3 and 4 are -log p1[y] - log p2[y] + alpha * this; with the loss as the *mean* over the 2B
    rows, loss + alpha * this is as in the authors' published code, and half of equation 4 at twice this alpha.
    A regression takes half the squared difference of the two scores. Exactly 0 where nothing is dropped.
    """
    first, second = logits.chunk(2)
    return divergence(head, first, second) / 2


def smoothness(classify, embedded, logits, heads, noise=1e-5, step_size=1e-3, radius=1e-5, draw=torch.randn):
    """SMART's term R_s: how much the outputs change under the worst small change of the embeddings.

        R_s = mean over examples of the max of divergence(f(x + d), f(x)) over |d|_inf <= radius

    (Jiang et al. 2020, section 3.1, below equation 1.) The max is sought as in their Algorithm 1, with one step:

        d ~ N(0, noise^2)    g = gradient of the divergence by d    d <- clamp(d + step_size g / |g|_inf, +-radius)

    classify    function from embedded tokens [N, H] to {task: logits [B, outputs]}: all of the model after them, with
                the same dropout in each call (dropout.drawn_again)
    embedded    [N, H], the output of the embedding;  logits  {task: what `classify` made of it};  heads  {task: head}
    noise, step_size, radius    the paper's sigma, eta and epsilon, at its values (section 4)
    draw        torch.randn, or what takes its place

    Returns {task: scalar}; its gradient reaches embeddings, trunk and heads. Costs two more forward passes and two
    more backward. With the same dropout in all passes d = 0 gives exactly 0. (The paper does not say; dropout drawn
    anew changes the outputs far more than so small a d does, and the term is then R-Drop's.) Each token's g is
    divided by its own largest entry, as in the authors' code, so that no task's gradient hides another's. That code
    then has no projection but divides noise and step together by their largest entry, hence d far beyond any
    radius; here the paper is followed.
    """
    clean = {task: output.detach() for task, output in logits.items()}
    dtype = torch.promote_types(embedded.dtype, torch.float32)  # half precision would round x + d to x
    d = (noise * draw(embedded.shape, dtype=dtype, device=embedded.device)).requires_grad_()
    noisy = classify(embedded.detach() + d)
    (g,) = torch.autograd.grad(sum(divergence(heads[task], noisy[task], clean[task]) for task in clean), d)
    largest = g.abs().amax(dim=-1, keepdim=True).clamp_min(torch.finfo(dtype).tiny)  # [N, 1]; no division by 0
    d = (d.detach() + step_size * g / largest).clamp(-radius, radius)

    perturbed = classify(embedded + d)
    return {task: divergence(heads[task], perturbed[task], logits[task]) for task in logits}

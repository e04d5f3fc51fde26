"""optimizer.py from part to whole: moments and step, bias correction, every parameter's own, then whole runs.

Each part first meets what is known of its mistakes (says_why.py), so that the first failure names the cause; then a
numpy reference that shares no code with ours, torch's AdamW, and figures by hand.
"""

import copy
import io
import math
import shutil

import numpy as np
import pytest
import says_why
import torch

import optimizer
from minbert.layers import compiled_adamw
from optimizer import AdamW, parameter_groups

SHAPES = [(5, 3), (17,), (2, 3, 4), (1,), ()]
HARD = {"lr": 0.1, "betas": (0.9, 0.999), "eps": 1e-2, "weight_decay": 0.1}  # every term is large enough to be seen

ORDERS = ("decay first", "eps inside")  # which are not the course's

needs_compiler = pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler, no g++ here")
compiled_too = pytest.mark.parametrize(
    "compiled", [False, pytest.param(True, marks=[pytest.mark.slow, needs_compiler])], ids=["plain", "compiled"]
)


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request):
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return request.param


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(compiled_adamw, "SMALL", 1)  # the compiled path takes all but single numbers
    monkeypatch.setattr(optimizer, "CHUNK", 7)  # so that tiny tensors too are updated in pieces, the last one short


def reference(
    parameter, gradients, lr, betas=(0.9, 0.999), eps=1e-6, weight_decay=0.0, correct_bias=True, variant="ours"
):
    """AdamW in numpy, float64, one whole array; `gradients` maps (step from 0, parameter) to the gradient.
    `variant`: "ours" or one of ORDERS."""
    p = np.array(parameter, dtype=np.float64)
    beta1, beta2 = betas
    m = v = np.zeros_like(p)
    for t in range(1, gradients.steps + 1):
        g = gradients(t - 1, p)
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        if variant == "decay first":
            p = p - lr * weight_decay * p
        c1, c2 = (1 - beta1**t, 1 - beta2**t) if correct_bias else (1, 1)
        if variant == "eps inside":
            p = p - lr * (m / c1) / (np.sqrt(v / c2) + eps)
        else:
            p = p - lr * np.sqrt(c2) / c1 * m / (np.sqrt(v) + eps)
        if variant != "decay first":
            p = p - lr * weight_decay * p
    return p


class Pull:
    """Noisy gradients of (p - target)^2 / 2: they depend on the parameter, so that an error spreads."""

    def __init__(self, shape, steps=20, seed=0):
        rng = np.random.default_rng(seed)
        self.steps, self.target = steps, rng.normal(size=shape)
        self.noise = rng.normal(size=(steps, *shape))

    def __call__(self, step, p):
        return p - self.target + self.noise[step]


def problem(device="cpu", dtype=torch.float64, steps=20):
    """Parameters of every shape in SHAPES, and the gradients that go with each."""
    rng = np.random.default_rng(11)
    starts = [rng.normal(size=shape) for shape in SHAPES]
    pulls = [Pull(shape, steps, seed) for seed, shape in enumerate(SHAPES)]
    return [torch.tensor(x, dtype=dtype, device=device, requires_grad=True) for x in starts], pulls


def train(optimizer, parameters, pulls, steps):
    for step in steps:
        for parameter, pull in zip(parameters, pulls, strict=True):
            values = parameter.detach().cpu().double().numpy()
            parameter.grad = torch.as_tensor(pull(step, values), dtype=parameter.dtype, device=parameter.device)
        optimizer.step()


def run(steps=20, device="cpu", dtype=torch.float64, **arguments):
    parameters, pulls = problem(device, dtype, steps)
    train(AdamW(parameters, **arguments), parameters, pulls, range(steps))
    return [parameter.detach().cpu().numpy() for parameter in parameters]


def expected(steps=20, **arguments):
    parameters, pulls = problem(steps=steps)
    return [reference(p.detach().numpy(), pull, **arguments) for p, pull in zip(parameters, pulls, strict=True)]


def distance(xs, ys):
    return max(np.abs(x - y).max() for x, y in zip(xs, ys, strict=True))


# ---------------------------------------------------------------------------------------------- the update


def test_one_tensor():
    """Moments, the step along them, eps, and the decay, in `update_`."""
    says_why.assert_right("a4", "update")


def test_bias_correction():
    says_why.assert_right("a4", "step_size")


def test_whole_steps():
    """AdamW itself: counts and moments of each parameter's own, and rests."""
    says_why.assert_right("a4", "step")


def test_one_step_by_hand():
    """g = 2: m = 0.2, v = 0.004, alpha_1 = 0.1 sqrt(0.001) / 0.1; p = 1 - alpha_1 m / (sqrt(v) + 0.5), then 0.99 p."""
    parameter = torch.ones(1, dtype=torch.float64, requires_grad=True)
    parameter.grad = torch.full((1,), 2.0, dtype=torch.float64)
    AdamW([parameter], lr=0.1, eps=0.5, weight_decay=0.1).step()
    assert parameter.item() == pytest.approx(0.99 * (1 - math.sqrt(0.001) * 0.2 / (math.sqrt(0.004) + 0.5)), abs=1e-15)


@compiled_too
def test_a_small_decay_is_not_rounded_away_in_float32(compiled, monkeypatch):
    """lr 1e-5 and weight decay 0.01: a step takes 1e-7 of p. 1 - 1e-7 is no float32 (1 - 1.2e-7 is the nearest)."""
    monkeypatch.setattr(optimizer, "CHUNK", 1001)  # in one piece
    p = torch.nn.Parameter(torch.linspace(1.0, 2.0, 1001))
    start = p.detach().double().clone()
    ours = AdamW([p], lr=1e-5, weight_decay=0.01, compiled=compiled)
    for _ in range(2000):
        p.grad = torch.zeros_like(p)
        ours.step()
    lost = float(((start - p.detach().double()) / start).mean())
    words = "the decay is rounded: p * float32(1 - 1e-7) loses 20 % more than p - 1e-7 p"
    assert lost == pytest.approx(1 - (1 - 1e-7) ** 2000, rel=0.1), words


@compiled_too
@pytest.mark.parametrize("correct_bias", [True, False])
def test_hand_reference_in_float64(device, correct_bias, compiled):
    known = expected(correct_bias=correct_bias, **HARD)
    orders = [(order, expected(correct_bias=correct_bias, variant=order, **HARD)) for order in ORDERS]
    for i, ours in enumerate(run(device=device, compiled=compiled, correct_bias=correct_bias, **HARD)):
        mistakes = [(f"the order is another one: {order}", values[i]) for order, values in orders]
        says_why.same(f"parameter {i} after 20 steps", ours, known[i], 1e-10, mistakes)


@pytest.mark.parametrize("variant", ORDERS)
def test_the_hand_reference_tells_the_orders_apart(variant):
    assert distance(expected(**HARD), expected(variant=variant, **HARD)) > 1e-3


@compiled_too
def test_torch_adamw_without_decay(device, compiled):
    """torch decays first and has eps inside the correction: without decay and with a tiny eps the two must agree."""
    ours = run(50, device, lr=0.01, eps=1e-12, compiled=compiled)
    parameters, pulls = problem(device, steps=50)
    theirs = torch.optim.AdamW(parameters, lr=0.01, eps=1e-12, weight_decay=0.0)
    train(theirs, parameters, pulls, range(50))
    for i, parameter in enumerate(parameters):
        says_why.same(f"parameter {i} after 50 steps", ours[i], parameter, 1e-10)


@compiled_too
def test_float32_stays_within_rounding(device, compiled):
    assert distance(run(device=device, dtype=torch.float32, compiled=compiled, **HARD), expected(**HARD)) < 2e-6


def test_the_courses_check():
    """The protocol of the course's own optimizer test: a 3 -> 2 linear map learns (x0 + x1, -x2) for 1000 steps."""
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2, bias=False).double()
    rng = np.random.default_rng(0)
    rows = rng.uniform(size=(1000, 3))
    wanted = np.stack([rows[:, 0] + rows[:, 1], -rows[:, 2]], axis=1)

    def gradients(step, weight):  # of sum((W x - y)^2)
        return 2 * np.outer(weight @ rows[step] - wanted[step], rows[step])

    gradients.steps = 1000
    known = reference(model.weight.detach().numpy(), gradients, lr=1e-3, weight_decay=1e-4)
    ours = AdamW(model.parameters(), lr=1e-3, weight_decay=1e-4)
    for x, y in zip(torch.tensor(rows), torch.tensor(wanted), strict=True):
        ours.zero_grad()
        ((model(x) - y) ** 2).sum().backward()
        ours.step()
    says_why.same("the weight after 1000 steps", model.weight, known, 1e-12)


@pytest.mark.parametrize(
    "change",
    [
        {"lr": 0.09},
        {"betas": (0.8, 0.999)},
        {"betas": (0.9, 0.99)},
        {"eps": 1e-4},
        {"weight_decay": 0.0},
        {"correct_bias": False},
    ],
    ids=str,
)
def test_every_argument_changes_the_result(change):
    assert distance(run(**HARD), run(**HARD | change)) > 1e-3, f"{change} changes nothing"
    assert distance(run(**HARD | change), expected(**HARD | change)) < 1e-10


def test_defaults_are_the_courses():
    assert distance(run(), expected(lr=1e-3, betas=(0.9, 0.999), eps=1e-6, weight_decay=0.0)) < 1e-12


# ---------------------------------------------------------------------------------------------- parameters and groups


@compiled_too
def test_groups_have_their_own_values(device, compiled):
    parameters, pulls = problem(device)
    own = [HARD, {**HARD, "lr": 0.05}, {**HARD, "weight_decay": 0.0}, {**HARD, "eps": 0.1}, {**HARD, "lr": 0.0}]
    groups = [{"params": [parameter], **values} for parameter, values in zip(parameters, own, strict=True)]
    train(AdamW(groups, compiled=compiled), parameters, pulls, range(20))
    for parameter, start, pull, values in zip(parameters, problem()[0], pulls, own, strict=True):
        known = reference(start.detach().numpy(), pull, **values)
        says_why.same(f"a parameter of the group with {values}", parameter, known, 1e-10)


@compiled_too
def test_a_parameter_without_gradient_is_left_alone_and_keeps_its_own_step_count(compiled):
    (first, second, *_), (pull, late, *_) = problem()
    unmoved = second.detach().clone()
    ours = AdamW([first, second], compiled=compiled, **HARD)
    train(ours, [first], [pull], range(5))
    assert torch.equal(second, unmoved), "a parameter without gradient has changed"
    assert second not in ours.state
    train(ours, [first, second], [pull, late], range(5, 20))
    late.noise, late.steps = late.noise[5:], 15
    says_why.same("a parameter that rested for 5 steps", second, reference(unmoved.numpy(), late, **HARD), 1e-10)


@compiled_too
def test_zero_gradients_leave_zero_updates(compiled):
    parameter = torch.ones(4, requires_grad=True)
    parameter.grad = torch.zeros(4)
    ours = AdamW([parameter], compiled=compiled)
    for _ in range(3):
        ours.step()
    assert torch.equal(parameter, torch.ones(4))


@compiled_too
def test_strided_parameters_and_gradients(compiled):
    values, pull = np.random.default_rng(0).normal(size=(6, 4)), Pull((6, 4))
    parameter = torch.tensor(values.T.copy()).T.requires_grad_()  # the columns lie together in memory
    assert not parameter.is_contiguous()
    train(AdamW([parameter], compiled=compiled, **HARD), [parameter], [pull], range(20))
    says_why.same("a strided parameter", parameter, reference(values, pull, **HARD), 1e-10)


def test_parameters_keep_their_own_memory():
    parameters, pulls = problem()
    places = [parameter.data_ptr() for parameter in parameters]
    train(AdamW(parameters), parameters, pulls, range(2))
    assert [parameter.data_ptr() for parameter in parameters] == places
    assert all(p.untyped_storage().nbytes() == p.numel() * 8 for p in parameters)


def test_closure_computes_gradients_and_its_loss_is_returned():
    parameter = torch.ones(2, requires_grad=True)

    def closure():
        loss = (parameter**2).sum()
        loss.backward()
        return loss

    assert AdamW([parameter]).step(closure).item() == 2.0
    assert parameter.max() < 1


def test_sparse_gradients_are_refused():
    embedding = torch.nn.Embedding(4, 2, sparse=True)
    embedding(torch.tensor([1])).sum().backward()
    with pytest.raises(RuntimeError, match="sparse=False"):
        AdamW(embedding.parameters()).step()


@pytest.mark.parametrize(
    "wrong",
    [
        {"lr": -1.0},
        {"lr": math.nan},
        {"lr": math.inf},
        {"eps": -1e-8},
        {"weight_decay": -0.1},
        {"betas": (1.0, 0.999)},
        {"betas": (0.9, -0.1)},
        {"betas": (0.9,)},
    ],
    ids=str,
)
def test_values_out_of_range(wrong):
    (name,) = wrong
    with pytest.raises(ValueError, match=name):
        AdamW([torch.zeros(2)], **wrong)
    with pytest.raises(ValueError, match=name):
        AdamW([{"params": [torch.zeros(2)], **wrong}])


def test_parameter_groups():
    model = torch.nn.Sequential(torch.nn.Embedding(5, 4), torch.nn.LayerNorm(4), torch.nn.Linear(4, 2))
    (everything,) = parameter_groups(model, 0.01)
    assert everything["weight_decay"] == 0.01
    assert len(everything["params"]) == 5
    decay, rest = parameter_groups(model, 0.01, decay_everything=False)
    assert (decay["weight_decay"], rest["weight_decay"]) == (0.01, 0.0)
    matrices, vectors = [model[0].weight, model[2].weight], [model[1].weight, model[1].bias, model[2].bias]
    assert [id(p) for p in decay["params"]] == [id(p) for p in matrices], "matrices decay, and they alone"
    assert [id(p) for p in rest["params"]] == [id(p) for p in vectors], "biases and LayerNorms do not decay"
    assert len(parameter_groups(torch.nn.Linear(2, 2, bias=False), 0.01, decay_everything=False)) == 1


@pytest.mark.gpu
def test_a_step_does_not_wait_for_the_gpu():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    parameters, pulls = problem("cuda", torch.float32)
    ours = AdamW(parameters, **HARD)
    train(ours, parameters, pulls, range(1))
    torch.cuda.set_sync_debug_mode("error")
    try:
        ours.step()
    finally:
        torch.cuda.set_sync_debug_mode("default")


# ---------------------------------------------------------------------------------------------- state


def through_a_file(state):
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


@compiled_too
def test_a_run_continues_bit_for_bit_from_its_saved_state(device, compiled):
    whole, pulls = problem(device, torch.float32)
    train(AdamW(whole, compiled=compiled, **HARD), whole, pulls, range(20))

    parameters, _ = problem(device, torch.float32)
    first = AdamW(parameters, compiled=compiled, **HARD)
    train(first, parameters, pulls, range(10))
    resumed = [parameter.detach().clone().requires_grad_() for parameter in parameters]
    second = AdamW(resumed, compiled=compiled)  # the values of the run come with the state too
    second.load_state_dict(through_a_file(first.state_dict()))
    train(second, resumed, pulls, range(10, 20))
    assert all(torch.equal(x, y) for x, y in zip(whole, resumed, strict=True))
    assert second.state_dict()["state"][0]["step"] == 20


def test_a_copied_optimizer_goes_on():
    parameters, pulls = problem()
    train(AdamW(parameters), parameters, pulls, range(2))
    twin = copy.deepcopy(AdamW(parameters))
    train(twin, twin.param_groups[0]["params"], pulls, range(2))
    assert twin.compiled is False


@pytest.mark.slow
@needs_compiler
def test_a_run_may_switch_between_plain_and_compiled():
    parameters, pulls = problem()
    start, steps = [p.detach().numpy().copy() for p in parameters], iter(range(20))
    state = None
    for compiled in (False, True, False, True):
        ours = AdamW(parameters, compiled=compiled, **HARD)
        if state:
            ours.load_state_dict(state)
        train(ours, parameters, pulls, [next(steps) for _ in range(5)])
        state = through_a_file(ours.state_dict())
        assert list(state["state"][0]) == ["step", "exp_avg", "exp_avg_sq"]
        assert "compiled" not in state["param_groups"][0]
    known = [reference(x, pull, **HARD) for x, pull in zip(start, pulls, strict=True)]
    assert distance([p.detach().numpy() for p in parameters], known) < 1e-10

"""minGRU, minLSTM and Mamba-2: the parallel form equals the step-by-step formulas in outputs, states and gradients."""

import pytest
import torch
import torch.nn.functional as F

from charlm.models import build
from charlm.models.layers.blocks import CausalConv
from charlm.models.layers.scan import n_gpu_chunks, scan
from charlm.models.mamba2 import Mamba2Mixer, state_space
from charlm.models.min_gru import MinGRUMixer
from charlm.models.min_lstm import MinLSTMMixer

V, B, E, H = 11, 2, 5, 7
NAMES = ["min-gru", "min-lstm", "mamba2"]
LENGTHS_AND_CHUNKS = [(1, 1), (2, 1), (2, 2), (7, 1), (7, 7), (12, 3), (12, 4), (64, 8), (512, 1), (512, 16)]
same = torch.testing.assert_close


def doubles(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def with_gradients(function, *inputs, parameters=()):
    """Return the outputs of a function, and the gradients of a loss that depends on every element of them."""
    leaves = [x.detach().clone().requires_grad_() for x in inputs]
    outputs = function(*leaves)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    loss = sum((torch.linspace(1, 2, y.numel(), dtype=y.dtype).view_as(y) * y.sin()).sum() for y in outputs)
    return outputs, torch.autograd.grad(loss, [*leaves, *parameters])


def recurrence(a, b, hidden):
    hiddens = []
    for t in range(a.shape[1]):
        hidden = a[:, t] * hidden + b[:, t]
        hiddens.append(hidden)
    return torch.stack(hiddens, dim=1)


def gates(kind, n_steps):
    """Return a in [0, 1], float64, (B, T, H)."""
    far = 40 * torch.randint(-1, 2, (B, n_steps, H)).double()  # sigmoid(-40) = 4e-18, sigmoid(40) = 1
    ends = torch.randint(2, (B, n_steps, H)).double()
    near_one = 1 - 1e-9 * torch.rand(B, n_steps, H, dtype=torch.float64)
    return {
        "drawn": torch.rand(B, n_steps, H, dtype=torch.float64),
        "near 0": 1 - near_one,
        "near 1": near_one,
        "0 or 1": ends,
        "far": torch.sigmoid(far),
        "smallest": torch.full_like(ends, 1e-300),
    }[kind]


@pytest.mark.parametrize("kind", ["drawn", "near 0", "near 1", "0 or 1", "far", "smallest"])
@pytest.mark.parametrize(("n_steps", "n_chunks"), LENGTHS_AND_CHUNKS)
def test_a_scan_equals_the_loop_in_outputs_and_gradients(n_steps, n_chunks, kind):
    a, b, first = gates(kind, n_steps), doubles(B, n_steps, H), doubles(B, H)
    ours = with_gradients(lambda a, b, first: scan(a, b, first, n_chunks), a, b, first)
    same(ours, with_gradients(recurrence, a, b, first), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("n_chunks", [1, 16])
@pytest.mark.parametrize("kind", ["drawn", "near 0", "near 1", "0 or 1", "far", "smallest"])
def test_a_scan_is_as_exact_as_the_loop_in_float32(kind, n_chunks):
    a, b, first = gates(kind, 512).float(), torch.randn(B, 512, H), torch.randn(B, H)
    exact = recurrence(a.double(), b.double(), first.double())
    of_loop, of_scan = (
        (f.double() - exact).abs().max() for f in (recurrence(a, b, first), scan(a, b, first, n_chunks))
    )
    assert of_scan <= 2 * of_loop + 1e-6


def test_the_number_of_chunks_on_a_gpu_is_the_largest_divisor_up_to_the_square_root():
    assert [n_gpu_chunks(n) for n in (1, 2, 7, 12, 64, 128, 512)] == [1, 1, 1, 3, 8, 8, 16]


def test_a_scan_of_bfloat16_accumulates_in_float32():
    a, b, first = gates("drawn", 64).bfloat16(), torch.randn(B, 64, H).bfloat16(), torch.randn(B, H)
    same(scan(a, b, first), recurrence(a.float(), b.float(), first))


def convolved(conv, x, last):
    """Compute a causal convolution element by element; return outputs and the last inputs."""
    x = torch.cat([last, x], dim=1)
    outputs = torch.stack(
        [conv.bias + (conv.weight * x[:, t : t + 4]).sum(dim=1) for t in range(x.shape[1] - 3)], dim=1
    )
    return outputs, x[:, -3:]


@pytest.mark.parametrize("n_steps", [1, 2, 3, 9])
def test_a_causal_convolution_equals_conv1d_with_left_padding(n_steps):
    conv, x, last = CausalConv(H).double(), doubles(B, n_steps, H), doubles(B, 3, H)
    same(conv(x, last), convolved(conv, x, last))
    same(conv(x), convolved(conv, x, torch.zeros_like(last)))
    by_library = F.conv1d(torch.cat([last, x], dim=1).mT, conv.weight.mT.unsqueeze(1), conv.bias, groups=H).mT
    same(conv(x, last)[0], by_library)


def min_gru_step(x, hidden, w, b):
    z = torch.sigmoid(x @ w[:H].T + b[:H])
    new = x @ w[H:].T + b[H:]
    return (1 - z) * hidden + z * new


def min_lstm_step(x, hidden, w, b):
    f, i = torch.sigmoid(x @ w[:H].T + b[:H]), torch.sigmoid(x @ w[H : 2 * H].T + b[H : 2 * H])
    new = x @ w[2 * H :].T + b[2 * H :]
    return f / (f + i) * hidden + i / (f + i) * new


def min_by_hand(step):
    def read(mixer, x, hidden, last):
        x, last = convolved(mixer.conv, x, last)
        hiddens = []
        for x_t in x.unbind(dim=1):
            hidden = step(x_t, hidden, mixer.gates.weight, mixer.gates.bias)
            hiddens.append(hidden)
        return mixer.out(torch.stack(hiddens, dim=1)), hidden, last

    return read


def mamba2_by_hand(mixer, u, matrix, last):
    n_heads, n_inner, n = mixer.n_heads, mixer.n_inner, mixer.n_state
    gate, conv_in, step = (u @ mixer.project.weight.T).split([n_inner, n_inner + 2 * n, n_heads], dim=2)
    conv_out, last = convolved(mixer.conv, conv_in, last)
    active = conv_out * torch.sigmoid(conv_out)
    ys = []
    for t in range(u.shape[1]):
        x, b, c = active[:, t].split([n_inner, n, n], dim=1)
        heads = []
        for k, x_k in enumerate(x.chunk(n_heads, dim=1)):
            d = torch.log1p(torch.exp(step[:, t, k] + mixer.step_bias[k]))
            a = torch.exp(-d * torch.exp(mixer.log_rate[k]))
            entering = torch.einsum("b,bp,bn->bpn", d, x_k, b)
            heads.append(a[:, None, None] * matrix[:, k] + entering)
        matrix = torch.stack(heads, dim=1)
        y = torch.einsum("bkpn,bn->bkp", matrix, c) + mixer.skip[:, None] * x.unflatten(1, (n_heads, -1))
        ys.append(mixer.norm(y.flatten(1) * gate[:, t] * torch.sigmoid(gate[:, t])))
    return mixer.out(torch.stack(ys, dim=1)), matrix, last


MIXERS = {
    "min-gru": (lambda: MinGRUMixer(H), min_by_hand(min_gru_step), [(B, H), (B, 3, H)]),
    "min-lstm": (lambda: MinLSTMMixer(H), min_by_hand(min_lstm_step), [(B, H), (B, 3, H)]),
    "mamba2": (lambda: Mamba2Mixer(H, n_heads=3, n_state=4), mamba2_by_hand, [(B, 3, 5, 4), (B, 3, 15 + 2 * 4)]),
}


@pytest.mark.parametrize("n_steps", [1, 2, 32, 70])
@pytest.mark.parametrize("name", NAMES)
def test_a_mixer_equals_its_formula_in_outputs_states_and_gradients(name, n_steps):
    make, by_hand, shapes = MIXERS[name]
    mixer = make().double()
    inputs = [doubles(B, n_steps, H), *(doubles(*shape) for shape in shapes)]

    def ours(x, *state):
        outputs, state = mixer(x, state)
        return outputs, *state

    def theirs(x, *state):
        return by_hand(mixer, x, *state)

    parameters = list(mixer.parameters())
    same(*(with_gradients(f, *inputs, parameters=parameters) for f in (ours, theirs)), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_the_initial_state_of_a_mixer_is_zero(name):
    make, _, shapes = MIXERS[name]
    mixer, x = make().double(), doubles(B, 5, H)
    same(mixer(x), mixer(x, tuple(torch.zeros(*shape, dtype=torch.float64) for shape in shapes)))


@torch.no_grad()
@pytest.mark.parametrize("size", [1e2, 1e5])
@pytest.mark.parametrize("name", ["min-gru", "min-lstm"])
def test_saturated_gates_give_finite_and_exact_outputs(name, size):
    make, by_hand, shapes = MIXERS[name]
    mixer = make()
    mixer.gates.weight[:-H] *= size
    mixer.gates.bias[:-H] -= size / 2  # both gates of minLSTM are often 0 at once
    inputs = [torch.randn(B, 512, H), *(torch.randn(*shape) for shape in shapes)]
    outputs, state = mixer(inputs[0], tuple(inputs[1:]))
    if size == 1e2:  # the quotient is still representable in float64
        wanted, hidden, _ = by_hand(mixer.double(), *(x.double() for x in inputs))
        same((outputs, state[0]), (wanted.float(), hidden.float()), rtol=1e-3, atol=1e-3)
    assert outputs.isfinite().all() and state[0].abs().max() < 1e3


@pytest.mark.parametrize("name", ["min-gru", "min-lstm"])
def test_saturated_gates_have_finite_gradients(name):
    mixer = MIXERS[name][0]()
    with torch.no_grad():
        mixer.gates.weight[:-H] *= 1e5
    mixer(torch.randn(B, 512, H))[0].sum().backward()
    assert all(p.grad.isfinite().all() for p in mixer.parameters())


def state_space_by_steps(x, log_decay, b, c, matrix):
    ys = []
    for t in range(x.shape[1]):
        decay = log_decay[:, t].exp()[:, :, None, None]
        matrix = decay * matrix + x[:, t].unsqueeze(3) * b[:, t, None, None, :]
        ys.append((matrix * c[:, t, None, None, :]).sum(dim=3))
    return torch.stack(ys, dim=1), matrix


@pytest.mark.parametrize("kind", ["drawn", "near 0", "near 1", "far", "smallest"])
@pytest.mark.parametrize("n_steps", [1, 2, 33, 128])
def test_the_matrix_form_of_the_state_space_equals_the_recurrence(n_steps, kind):
    inputs = [
        doubles(B, n_steps, 3, 5),
        gates(kind, n_steps)[:, :, :3].log(),
        doubles(B, n_steps, 4),
        doubles(B, n_steps, 4),
        doubles(B, 3, 5, 4),
    ]
    same(with_gradients(state_space, *inputs), with_gradients(state_space_by_steps, *inputs), rtol=1e-11, atol=1e-11)


def test_a_very_small_decay_does_not_cancel_later_decays():
    n_steps = 32
    log_decay = torch.full((B, n_steps, 3), -1e-4)
    log_decay[:, 3] = -1e6  # the difference of two cumulative sums would lose 1e-4
    inputs = [torch.randn(B, n_steps, 3, 5), log_decay, torch.randn(B, n_steps, 4), torch.randn(B, n_steps, 4)]
    inputs.append(torch.randn(B, 3, 5, 4))
    wanted = state_space_by_steps(*(x.double() for x in inputs))
    same(state_space(*inputs), tuple(x.float() for x in wanted), rtol=1e-4, atol=1e-4)


def in_segments(model, chars, lengths):
    state, segments = None, []
    for segment in chars.split(lengths, dim=1):
        logits, state = model(segment, state)
        segments.append(logits)
    return torch.cat(segments, dim=1), state


@pytest.mark.parametrize("lengths", [[1] * 45, [2, 3, 1, 37, 2], [32, 13]])
@pytest.mark.parametrize("name", NAMES)
def test_segments_with_state_equal_one_call_in_logits_states_and_gradients(name, lengths):
    model = build(name, V, n_embed=E, n_hidden=H, n_layers=2).double()
    chars = torch.randint(V, (B, 45))
    weights = list(model.parameters())

    def loss_and_gradients(logits, state):
        loss = logits.sin().sum() + sum(part.cos().sum() for part in state)
        return logits, state, torch.autograd.grad(loss, weights)

    whole = loss_and_gradients(*model(chars))
    same(loss_and_gradients(*in_segments(model, chars, lengths)), whole, rtol=1e-9, atol=1e-9)


@torch.no_grad()
@pytest.mark.parametrize("name", NAMES)
def test_segments_of_a_long_text_equal_one_call_in_float32(name):
    model = build(name, V, n_embed=E, n_hidden=H, n_layers=2)
    chars = torch.randint(V, (B, 2048))
    logits, state = model(chars)
    steps, state_of_steps = in_segments(model, chars, [512, 1, 1, 1534])
    same((steps, state_of_steps), (logits, state), rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("name", NAMES)
def test_the_state_can_be_carried_under_bfloat16_autocast(name):
    model = build(name, V, n_embed=E, n_hidden=H, n_layers=2)
    chars = torch.randint(V, (B, 40))
    with torch.autocast("cpu", torch.bfloat16):
        logits, _ = in_segments(model, chars, [20, 1, 19])
    same(logits.float(), model(chars)[0], rtol=0.1, atol=0.1)

"""Cells: numpy and torch compute the same formula, and importing them needs neither."""

import subprocess
import sys
from copy import deepcopy

import numpy as np
import pytest
import torch

from charlm.cells import concat_cell, gru_cell, loop_cell, lstm_cell, rnn_cell

B, H = 3, 5
CELLS = {  # G, number of states, number of matrices
    rnn_cell: (1, 1, 1),
    gru_cell: (3, 1, 1),
    lstm_cell: (4, 2, 1),
    loop_cell: (1, 1, 1),
    concat_cell: (1, 1, 2),
}


def arguments(cell):
    """Return gates_in, state and weights as float64 tensors."""
    n_gates, n_states, n_matrices = CELLS[cell]
    state = tuple(torch.randn(B, H).double() for _ in range(n_states))
    weights = [torch.randn(H, n_gates * H).double() for _ in range(n_matrices)]
    gates_in, bias = torch.randn(B, n_gates * H).double(), torch.randn(n_gates * H).double()
    return gates_in, state if n_states > 1 else state[0], (*weights, bias)


def to_numpy(value):
    return tuple(map(to_numpy, value)) if isinstance(value, tuple) else value.numpy()


@pytest.mark.parametrize("cell", CELLS)
def test_a_cell_gives_the_same_in_numpy_and_in_torch(cell):
    gates_in, state, weights = arguments(cell)
    wanted = to_numpy(cell(torch, gates_in, state, *weights))
    arrays = to_numpy(gates_in), to_numpy(state), to_numpy(weights)
    np.testing.assert_allclose(cell(np, arrays[0], arrays[1], *arrays[2]), wanted, rtol=1e-12)
    for row in range(B):  # one text has vectors, not rows
        one = (tuple(part[row] for part in arrays[1])) if isinstance(arrays[1], tuple) else arrays[1][row]
        found = cell(np, arrays[0][row], one, *arrays[2])
        np.testing.assert_allclose(found, np.asarray(wanted)[..., row, :], rtol=1e-12)


@pytest.mark.parametrize("cell", CELLS)
def test_a_cell_leaves_its_arguments_as_they_were(cell):
    gates_in, state, weights = arguments(cell)
    arrays = to_numpy((gates_in, state, weights))
    before = deepcopy(arrays)
    cell(np, arrays[0], arrays[1], *arrays[2])
    assert str(arrays) == str(before)


@pytest.mark.parametrize("cell", [gru_cell, lstm_cell])
def test_a_gate_far_below_zero_is_closed(cell):
    _, state, weights = arguments(cell)
    gates_in = torch.full((B, CELLS[cell][0] * H), -1e4).double()
    with np.errstate(over="ignore"):
        found = cell(np, *to_numpy((gates_in, state)), *to_numpy(weights))
    np.testing.assert_allclose(found, to_numpy(cell(torch, gates_in, state, *weights)), atol=1e-12)


def test_cells_import_neither_torch_nor_numpy():
    code = "import sys, charlm.cells; print({'torch', 'numpy'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"

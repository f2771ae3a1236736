"""Tests that need a CUDA device: marked `cuda`, and skipped where there is none."""

import os
from pathlib import Path

import pytest
import torch

# Without it, cuDNN's layers may add in another order from call to call (documented at torch.nn.LSTM).
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:2")

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items):
    """Mark the tests of this folder."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.cuda)
            item.add_marker(pytest.mark.filterwarnings("ignore:RNN module weights are not part"))  # awd-lstm
            item.add_marker(pytest.mark.filterwarnings("ignore::DeprecationWarning"))  # when torch.compile is imported
            if not torch.cuda.is_available():
                item.add_marker(pytest.mark.skip(reason="there is no CUDA device"))


@pytest.fixture(autouse=True)
def full_precision():
    """Compute products of cuDNN's layers in float32 instead of TF32, to compare them with those of a CPU."""
    allowed = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = allowed

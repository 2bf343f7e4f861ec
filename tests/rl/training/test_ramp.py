"""The linear ramp, of numbers and of tensors."""

import pytest
import torch

from nimbleq.rl.ramp import ramp


@pytest.mark.parametrize(("done", "value"), [(0.0, 4.0), (0.25, 3.5), (1.0, 2.0), (7.0, 2.0)])
def test_it_is_linear_and_then_constant(done: float, value: float) -> None:
    assert ramp(4.0, 2.0, done) == value
    assert ramp(4.0, 2.0, torch.tensor(done, dtype=torch.float64)).item() == value

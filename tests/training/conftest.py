"""Every test of this folder draws the same numbers at every run."""

import pytest
import torch

# the tests' networks are tiny: on a busy machine a second thread made one take 284 s instead of 2.5
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)

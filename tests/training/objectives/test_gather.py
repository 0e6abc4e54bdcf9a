"""Two processes give the value and the gradient of one."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from gather_worker import result

from hwsi.training.objectives.gather import average_gradients, gather, rank, world_size

HERE = Path(__file__).parent


def test_alone_it_is_the_identity() -> None:
    x = torch.randn(2, 3)
    assert gather(x) is x
    assert (rank(), world_size()) == (0, 1)
    p = torch.nn.Parameter(torch.ones(2))
    p.grad = torch.full((2,), 3.0)
    average_gradients([p])
    assert p.grad.tolist() == [3, 3]


@pytest.mark.slow
def test_two_ranks_equal_one_process(tmp_path: Path) -> None:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    out = tmp_path / "found.pt"
    call = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_addr", "127.0.0.1",
            "--master_port", str(port), str(HERE / "gather_worker.py"), str(out)]  # fmt: skip
    done = subprocess.run(call, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    expected = result([[0, 1, 2, 3, 4]], cached=False)
    found = torch.load(out, weights_only=True)
    for cached in ("False", "True"):
        for name, value in expected.items():
            assert torch.allclose(found[cached][name], value, rtol=1e-9, atol=1e-12), (cached, name)
    assert expected["project"].abs().max() > 1e-3
    assert expected["temperature"] == pytest.approx(found["False"]["temperature"].item())

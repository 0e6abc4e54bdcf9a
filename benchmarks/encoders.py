"""How fast encoders are, and how near to what the processor can do: images a second, and the share of its GEMM peak.

    python benchmarks/encoders.py                     # the small ones, seeded random weights
    python benchmarks/encoders.py conch_v1 --int8     # also by 8-bit integers: how much faster, how near to float32

- The peak is that of one large float32 product on the same threads, by PyTorch's default library or by oneDNN,
  whichever is faster. It moves with the clock and with neighbours on the machine: encoder and product are measured in
  turns, and the share is the median of the turns.
- FLOPs are those of products, convolutions and attention (two for a multiply-add); preparing pixels, norms and
  activations count as time only. Cells: the network, without cutting its maps into nuclei.
- Batch size and layout are chosen by measurement (hwsi/encoders/throughput.py).
- HIPT's ViT-4K cannot reach what ViTs for patches do: with heads of 32 numbers a fifth of its FLOPs are attention, of
  which the exponentials, which count for nothing here, take as long as the products.
"""

import argparse
import math
import sys
import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from hwsi.encoders import get
from hwsi.encoders.int8 import quantise
from hwsi.encoders.onednn import Linear
from hwsi.encoders.throughput import Rate, best_batch, measure

TARGET = 0.70
TURNS = 5
SMALL = ("patch-nano", "hipt_vit256", "phikon", "conch_v1", "uni_v1", "hipt_vit4k", "cellvit_256")
CPU = torch.device("cpu")
SIDE = 16  # patches along a side of a region


def linear_flops(x: torch.Size, weight: torch.Size, *_: Any, **__: Any) -> int:
    return 2 * math.prod(x) * weight[0]


def attention_flops(q: torch.Size, k: torch.Size, v: torch.Size, *_: Any, **__: Any) -> int:
    return sdpa_flop_count(q, k, v)


UNCOUNTED = {
    torch.ops.mkldnn._linear_pointwise: linear_flops,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: attention_flops,
}
"""What PyTorch's counter doesn't know, by the shapes of its arguments."""


def peak(seconds: float) -> float:
    """GFLOP/s of a product of square matrices."""
    n = 2048
    x, layer = torch.rand(n, n), Linear(n, n)
    runs = (lambda: x @ x, lambda: layer(x))
    return max(measure(run, CPU, seconds)[0] for run in runs) * 2 * n**3 / 1e9


def caller(encoder: Any) -> Callable[[int], Callable[[], Tensor]]:
    """From a number of images (regions, windows) to what encodes that many random ones."""

    def batch(n: int) -> Callable[[], Tensor]:
        rng = torch.Generator().manual_seed(0)
        if encoder.spec.scale == "region":
            width = get(encoder.spec.reads).dim
            places = torch.cartesian_prod(torch.arange(SIDE), torch.arange(SIDE)).repeat(n, 1, 1)
            present = torch.ones(n, SIDE**2, dtype=torch.bool)
            return partial(encoder.encode, torch.randn(n, SIDE**2, width, generator=rng), present, places)
        side = encoder.spec.input_px
        images = torch.randint(0, 256, (n, side, side, 3), dtype=torch.uint8, generator=rng)
        if encoder.spec.scale == "cell":
            return lambda: encoder.maps(images).tokens.mean((2, 3))
        return partial(encoder.encode, images)

    return batch


def flops(run: Callable[[], object]) -> int:
    with FlopCounterMode(display=False, custom_mapping=UNCOUNTED) as counter:
        run()
    return counter.get_total_flops()


def line(name: str, args: argparse.Namespace) -> tuple[list[str], float]:
    """A row of the table, and the share of the peak."""
    encoder = get(name).build(weights=None).requires_grad_(False)
    rate = best_batch(encoder, CPU, args.batch, args.seconds, batch=caller(encoder))
    work = flops(caller(encoder)(1)) / 1e9
    encoder.to(memory_format=torch.channels_last if rate.channels_last else torch.contiguous_format)
    run = caller(encoder)(rate.batch)
    turns = [(measure(run, CPU, args.seconds)[0] * rate.batch, peak(args.seconds / 2)) for _ in range(TURNS)]
    share = median(images * work / top for images, top in turns)
    images, top = (median(side) for side in zip(*turns, strict=True))
    row = [name, layout(rate), f"{images:.2f}", f"{work:.1f}", f"{images * work:.0f}", f"{top:.0f}", f"{share:.2f}"]
    if args.int8:
        row += int8(encoder, rate, args)
    return row, share


def layout(rate: Rate) -> str:
    return f"{rate.batch}{' NHWC' if rate.channels_last else ''}"


def int8(encoder: nn.Module, rate: Rate, args: argparse.Namespace) -> list[str]:
    other = quantise(encoder)
    fast = best_batch(other, CPU, args.batch, args.seconds, batch=caller(other))
    want, found = caller(encoder)(4)(), caller(other)(4)()
    near = torch.nn.functional.cosine_similarity(want, found, dim=-1).min().item()
    return [f"{fast.images_per_s / rate.images_per_s:.2f}x", f"{near:.5f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("encoders", nargs="*", default=SMALL, help="ids of patch, region and cell encoders")
    parser.add_argument("--int8", action="store_true", help="also by 8-bit integers: speed and least cosine to float32")
    parser.add_argument("--seconds", type=float, default=1.0, help="for each setting")
    parser.add_argument("--batch", type=int, nargs="+", default=(4, 8, 16), help="batch sizes to choose from")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.set_grad_enabled(False)
    table = Table(title=f"float32 on {args.threads} threads")
    columns = ("encoder", "batch", "images/s", "GFLOP", "GFLOP/s", "peak", "of peak", *(("int8", "cosine") * args.int8))
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i == 0 else "right", no_wrap=True)
    shares = {}
    for name in args.encoders:
        start = time.perf_counter()
        row, shares[name] = line(name, args)
        table.add_row(*row)
        print(f"{'  '.join(row)}  ({time.perf_counter() - start:.0f} s)", file=sys.stderr, flush=True)
    Console(width=max(100, Console().width)).print(table)
    # patch-nano is half convolutions, and trained for few FLOPs, not for fast ones
    slow = [n for n, share in shares.items() if get(n).scale == "patch" and n != "patch-nano" and share < TARGET]
    print(f"Vision Transformers for patches below {TARGET:.2f} of the peak: {', '.join(slow) or 'none'}")


if __name__ == "__main__":
    main()

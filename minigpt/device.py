"""Which device computes, and how it multiplies matrices.

A laptop's processor is enough for all that the series does; a GPU is used where one is asked for.
Nothing here knows of the model.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from minigpt.arguments import shown


def find_device(name: str) -> torch.device:
    """"cpu", "cuda", "cuda:1", "mps", or "auto" for the fastest that is there.

    Raises ValueError for one that is not.
    """
    there = {"cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available()),
             "cpu": 1}
    if name == "auto":
        name = next(kind for kind, count in there.items() if count)
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError):
        raise ValueError("device must be 'auto', 'cpu', 'cuda' or 'mps', "
                         f"not {shown(name)}") from None
    if (device.index or 0) >= there.get(device.type, 0):
        has = ", ".join(kind for kind, count in there.items() if count)
        raise ValueError(f"device must be one that this machine has ({has}), not {shown(name)}")
    return device


def a_device(name: str, value) -> torch.device:
    """A guard: a torch.device as it is, or what `find_device` makes of a name."""
    return value if isinstance(value, torch.device) else find_device(value)


def processor_has_bfloat16() -> bool:
    """Whether this processor has AVX512-BF16: instructions for products in bfloat16.

    Without them they are many times slower. AMD's laptops have them from Zen 4 on (AVX512-BF16),
    Intel's servers from Sapphire Rapids on (AMX too).
    """
    return torch.cpu.get_capabilities().get("avx512_bf16", False)


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device has bfloat16's instructions. Apple's GPUs are not asked: untried."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and processor_has_bfloat16()


@contextmanager
def matrix_products(device: torch.device, bfloat16: bool) -> Iterator[None]:
    """In here, matrix products are in bfloat16 if so asked; else in float32.

    Where the device has no instructions for it, they stay in float32. A bfloat16 is a float32
    without its last 16 bits: the same range, 8 significant bits (2.4 decimal digits). What is added
    up stays float32, so the loss hardly notices.
    """
    if not bfloat16 or not has_bfloat16(device):
        yield
        return
    # A processor's fused attention takes longer over a short context in bfloat16 than the plain
    # products do.
    attention = sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else nullcontext()
    with torch.autocast(device.type, torch.bfloat16), attention:
        yield


def moved(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of the processor's on the device; a GPU fetches it while the processor goes on.

    For that it has to lie in memory that stays where it is, "pinned".
    """
    if device.type == "cuda":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=device.type == "cuda")


def wait_for(device: torch.device) -> None:
    """Return when the device has done all that it was given. A processor always has."""
    if device.type in ("cuda", "mps"):
        getattr(torch, device.type).synchronize()

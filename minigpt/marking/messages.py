"""What may come back from the process that runs a student's code: plain values and tensors.

A message is a length, a JSON text that describes the value, and the tensors in the format of
safetensors. Nothing in it can run when it is read, and whoever sends something else is not
understood. What is not one of these kinds comes back as its type's name, `Other`.
"""

import json
import struct
from dataclasses import dataclass

import numpy
import safetensors.torch
import torch
from torch import Tensor

LARGEST = 64 * 2 ** 20      # bytes of one message


@dataclass(frozen=True)
class Other:
    """Something that was sent by name only."""

    kind: str


class Unreadable(ValueError):
    """A message that is none of ours."""


def pack(value) -> bytes:
    """A value as the bytes of a message."""
    tensors: dict[str, Tensor] = {}
    text = json.dumps(_plain(value, tensors)).encode()
    return struct.pack(">I", len(text)) + text + safetensors.torch.save(tensors)


def unpack(message: bytes):
    """The value of a message. Raises `Unreadable`."""
    try:
        (length,) = struct.unpack_from(">I", message)
        described = json.loads(message[4:4 + length])
        return _value(described, safetensors.torch.load(message[4 + length:]))
    except Exception as error:      # of a reader that was given anything at all
        raise Unreadable(f"{type(error).__name__}: {error}") from None


def _plain(value, tensors: dict[str, Tensor]):
    """What JSON can hold of a value; its tensors are put into `tensors`."""
    if isinstance(value, numpy.ndarray):
        value = torch.as_tensor(value.copy(order="C"))
    if isinstance(value, Tensor):
        tensors[name := str(len(tensors))] = value.detach().cpu().contiguous().clone()
        return {"tensor": name}
    if isinstance(value, numpy.generic):
        value = value.item()
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    if isinstance(value, (list, tuple)):
        return {type(value).__name__ if type(value) in (list, tuple) else "tuple":
                [_plain(part, tensors) for part in value]}
    if isinstance(value, dict):
        return {"dict": [[_plain(key, tensors), _plain(part, tensors)]
                         for key, part in value.items()]}
    return {"other": type(value).__name__}


def _value(described, tensors: dict[str, Tensor]):
    """The other way."""
    if not isinstance(described, dict):
        return described
    ((kind, content),) = described.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "bytes":
        return bytes.fromhex(content)
    if kind == "dict":
        return {_value(key, tensors): _value(part, tensors) for key, part in content}
    if kind in ("list", "tuple"):
        parts = [_value(part, tensors) for part in content]
        return parts if kind == "list" else tuple(parts)
    return Other(str(content))

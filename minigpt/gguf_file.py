"""Reads GGUF, the one-file format of llama.cpp, in which models for a laptop are passed on.

A file has settings (sizes, vocabulary, merges, a template for conversations) and tensors, most of
them in 4 to 8 bits a number. The library `gguf` reads and dequantises them. It looks at each of a
hundred thousand strings by itself, which takes seconds, so what it found is kept in a small file
beside the model, and read from there the next time.
"""

import contextlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from minigpt.files import write_atomically

CONTENTS_VERSION = 1
BROKEN = (ValueError, KeyError, IndexError, TypeError, OverflowError)  # gguf raises these


@dataclass(frozen=True)
class GGUFFile:
    """What a file holds: `settings` by name, and of each tensor kind, shape, and where it is."""

    path: Path
    settings: dict
    tensors: dict[str, dict]

    def tensor(self, name: str) -> Tensor:
        """A tensor in float32, whatever it is stored in.

        Raises ValueError, naming the file, where that can't be done.
        """
        from gguf import GGMLQuantizationType, quants
        if name not in self.tensors:
            raise ValueError(f"{self.path} has no tensor {name!r}")
        kind, shape = self.tensors[name]["kind"], self.tensors[name]["shape"]
        try:
            numbers = quants.dequantize(self.stored(name), GGMLQuantizationType[kind])
        except NotImplementedError:
            raise ValueError(f"{self.path} has the tensor {name!r} in {kind}, which can't be read "
                             "here") from None
        return torch.from_numpy(numbers).view(shape)

    def stored(self, name: str) -> np.ndarray:
        """A tensor as it stands in the file: (rows, bytes of a row), uint8."""
        entry = self.tensors[name]
        content = np.fromfile(self.path, np.uint8, entry["n_bytes"], offset=entry["start"])
        if len(content) < entry["n_bytes"]:
            raise ValueError(f"{self.path} is cut off: it ends within the tensor {name!r}")
        return content.reshape(*entry["shape"][:-1], -1)


def open_gguf(path: str | os.PathLike) -> GGUFFile:
    """The settings and the table of tensors of a GGUF file.

    Raises FileNotFoundError, or ValueError that names the file and says what is wrong with it.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    state = path.stat()
    same_file = {"version": CONTENTS_VERSION, "size": state.st_size, "changed": state.st_mtime_ns}
    kept = path.with_name(path.name + ".contents.json")
    contents = _kept_contents(kept, same_file)
    if contents is None:
        contents = _read(path)
        with contextlib.suppress(OSError):      # where nothing may be written, it stays slow
            write_atomically(kept, json.dumps(same_file | contents).encode())
    return GGUFFile(path, contents["settings"], contents["tensors"])


def _kept_contents(kept: Path, same_file: dict) -> dict | None:
    """What an earlier reading found, where it was of this very file and can be read; else None."""
    try:
        contents = json.loads(kept.read_bytes())
        return contents if same_file.items() <= contents.items() else None
    except (OSError, ValueError, AttributeError):
        return None


def _read(path: Path) -> dict:
    from gguf import GGUFReader
    try:
        reader = GGUFReader(path)
        settings = {name: field.contents() for name, field in reader.fields.items()}
        tensors = {tensor.name: {
            "kind": tensor.tensor_type.name, "shape": tensor.shape.tolist()[::-1],
            "start": int(tensor.data_offset), "n_bytes": int(tensor.n_bytes)}
            for tensor in reader.tensors}
    except BROKEN as error:
        raise ValueError(f"{path} is not a GGUF file, or is damaged: {error}") from error
    return {"settings": settings, "tensors": tensors}

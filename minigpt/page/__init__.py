"""A model as one web page that runs it, without Python, without a network, without a server.

Beside this file lie the page's own parts: page.html, its style, and the scripts, which do in plain
JavaScript what `tokenizer`, `model` and `sampling` do. Here they are put together with the weights,
the tokenizer and what is known of the model. Nothing that a person named (the title, the text)
becomes markup; a security policy lets the page run these scripts alone, and connect to nowhere; a
checksum tells a damaged page from a whole one.
"""

import base64
import hashlib
import html
import json
import math
import re
import zlib
from dataclasses import asdict
from pathlib import Path
from string import Template

import numpy as np
import regex
import torch
from torch import Tensor

from minigpt.about import About
from minigpt.files import check_replaces, write_atomically
from minigpt.model import GPTConfig
from minigpt.tokenizer import Tokenizer
from minigpt.vocabulary import RULES

FOLDER = Path(__file__).parent
SCRIPTS = ("unpack", "tokenizer", "model", "sampling", "screen", "writing", "looking", "about")
LAST_SCRIPT = "start"           # stands behind the data that it reads
TITLE = "A small GPT"
LARGEST = 200_000_000           # bytes of a page: more is no fun to hand around, or for a phone
EXACT = 500_000                 # weights up to which a page keeps all their 32 bits
CURVE_POINTS = 400
CHARACTER_CLASS = re.compile(r"\[(?:\\.|[^\]\\])+\]|\\[dDsSwW]|\\[pP]\{\w+\}")


def check(path: Path, config: GPTConfig) -> None:
    """Raise ValueError where no page can be written to `path`, or none of so large a model."""
    if path.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"path must end in .html, so that a browser opens it, not {path.name!r}")
    check_replaces(path, "page of a model", _is_a_page(path))
    size = sum(config.parameter_counts().values()) * 2 * 4 / 3
    if size > LARGEST:
        raise ValueError(f"the model is too large for a page: it would have {size / 1e6:,.0f} MB, "
                         f"and {LARGEST / 1e6:,.0f} MB are the most")


def save(path: Path, tokenizer: Tokenizer, config: GPTConfig, weights: dict[str, Tensor],
         about: About, title: str | None, history) -> None:
    """Write the page, whole or not at all. `GPT.save_page` says what each is and what is raised."""
    write_atomically(path, page(tokenizer, config, weights, about, title, history).encode())


def _is_a_page(path: Path) -> bool:
    """Whether a file says that it is such a page, cut off or not."""
    if not path.is_file():
        return True
    with open(path, "rb") as file:
        return b'<meta name="generator" content="minigpt">' in file.read(4096)


def page(tokenizer: Tokenizer, config: GPTConfig, weights: dict[str, Tensor], about: About,
         title: str | None = None, history=None) -> str:
    """The page as text."""
    number_format, numbers = _pack(weights)
    sizes = [(name, tensor.numel()) for name, tensor in weights.items()]
    facts = {"title": title or TITLE, "config": asdict(config), "about": asdict(about),
             "tokenizer": _tokenizer_parts(tokenizer), "history": _curve(history),
             "format": number_format, "tensors": sizes, "numbers": sum(n for _, n in sizes)}
    facts = json.dumps(facts, allow_nan=False).replace("<", "\\u003c")     # no end of a script
    template, last, *scripts = map(part, (
        "page.html", f"{LAST_SCRIPT}.js", *(f"{name}.js" for name in SCRIPTS)))
    style = part("colours.css") + part("style.css")
    checked = "\n".join([style, _words(template), facts, numbers])
    return Template(template).substitute(
        title=html.escape(title or TITLE), policy=_policy(style, [*scripts, last]), style=style,
        scripts="\n".join(f"<script>{script}</script>" for script in scripts), facts=facts,
        checksum=f"{zlib.crc32(checked.encode()):08x}", weights=numbers, last=last)


def part(name: str) -> str:
    """A file of this folder, as text."""
    return (FOLDER / name).read_text(encoding="utf-8")


def _words(template: str) -> str:
    """What the page says: the text of its element `main`, in which nothing is filled in."""
    main = re.search(r"<main[^>]*>(.*)</main>", template, re.DOTALL)[1]
    return html.unescape(re.sub(r"<[^>]*>", "", main))


def _policy(style: str, scripts: list[str]) -> str:
    """The content security policy: the page's own scripts and style, and nothing from anywhere."""
    def hashes(*texts):
        digests = (hashlib.sha256(text.encode()).digest() for text in texts)
        return " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)

    return (f"default-src 'none'; script-src {hashes(*scripts)}; style-src {hashes(style)}; "
            "img-src data:; connect-src 'none'; base-uri 'none'; form-action 'none'")


def _pack(weights: dict[str, Tensor]) -> tuple[str, str]:
    """The format of the numbers, "float16" or "float32", and all of them in base64.

    16 bits are enough to write as well, but not always to choose the same of two tokens that are
    nearly as likely. A small model can afford to be exact.
    """
    numbers = torch.cat([tensor.detach().cpu().float().flatten() for tensor in weights.values()])
    half = numbers.half()
    if len(numbers) > EXACT or torch.equal(half.float(), numbers):
        numbers = half
    if not numbers.isfinite().all():
        raise ValueError("the model has weights that are not finite in 16 bits, which hold at most "
                         "65504, so it makes no page")
    number_format = str(numbers.dtype).removeprefix("torch.")
    little_endian = numbers.numpy().astype(np.dtype(number_format).newbyteorder("<"))
    return number_format, base64.encodebytes(little_endian.tobytes()).decode()


def _curve(history) -> dict | None:
    """The losses for a picture, (step, nats per byte) each.

    Where the steps are very many, the mean of each few neighbours.
    """
    if history is None or not history.steps:
        return None
    group = math.ceil(len(history.steps) / CURVE_POINTS)
    groups = [slice(start, start + group) for start in range(0, len(history.steps), group)]
    training = [(history.steps[few][-1], float(np.mean(history.train_loss[few])))
                for few in groups]
    curves = {"training": training, "held_out": zip(history.val_steps, history.val_loss)}
    curves = {name: [(step, loss) for step, loss in points if math.isfinite(loss)]
              for name, points in curves.items()}
    return curves if curves["training"] else None


# ---- the tokenizer's rule, for a browser ---------------------------------------------------------


def _tokenizer_parts(tokenizer: Tokenizer) -> dict:
    return {"method": tokenizer.method,
            "vocab": [token.decode("latin-1") for token in tokenizer.vocab],
            "merges": tokenizer.merges, **word_rule(RULES[tokenizer.word_rule].pattern)}


def word_rule(pattern: re.Pattern | regex.Pattern) -> dict:
    """The same regular expression for JavaScript (flags "gu").

    "words" is the pattern, in which <0> stands for the first of the "classes" of characters, each
    written out as ranges. Python, its libraries and each browser know Unicode in another version,
    and mean different things by `\\w` and `\\s`. So each class is tried here on every character
    that there is, by the very library that uses the pattern.
    """
    library = re if isinstance(pattern, re.Pattern) else regex
    characters = "".join(map(chr, range(0x110000)))
    kinds = list(dict.fromkeys(CHARACTER_CLASS.findall(pattern.pattern)))

    def ranges(kind: str) -> str:
        spans = (match.span() for match in library.finditer(f"(?:{kind})+", characters))
        return "".join(f"\\u{{{start:x}}}-\\u{{{end - 1:x}}}" for start, end in spans)

    rule = CHARACTER_CLASS.sub(lambda match: f"<{kinds.index(match[0])}>", pattern.pattern)
    return {"words": rule, "classes": [ranges(kind) for kind in kinds]}

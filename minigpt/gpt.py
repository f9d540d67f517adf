"""GPT: tokenizer and model in one object, that trains, talks, and fits into one file.

The last stop: everything below it (tokenizer, model, training, sampling) knows nothing of the others, and this is where
they meet. Text goes in and text comes out.
"""

import codecs
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np
import torch
from torch import Tensor

from minigpt import corpus, files, presets
from minigpt.arguments import choice, find_device, instance, integer, shown
from minigpt.arguments import path as check_path
from minigpt.arguments import text as check_text
from minigpt.model import GPTConfig, GPTModel
from minigpt.sampling import generate_ids, last_logits, next_token_probs
from minigpt.tokenizer import Tokenizer
from minigpt.training import Report, TokenizedText, TrainingState, evaluate, training_loop

KIND = "minigpt model"
START = "\n"        # what a text is taken to follow: an empty prompt too needs a token to begin from


@dataclass
class History:
    """What happened in training: one entry a step, and one a measurement of the validation loss. Nats per byte."""

    steps: list[int] = field(default_factory=list)
    train_loss: list[float] = field(default_factory=list)
    val_steps: list[int] = field(default_factory=list)
    val_loss: list[float] = field(default_factory=list)
    seconds: float = 0.0
    tokens_per_second: float = 0.0
    interrupted: bool = False

    def add(self, report: Report) -> None:
        """Take in one more step."""
        self.steps.append(report.step)
        self.train_loss.append(report.loss)
        if report.validation_loss is not None:
            self.val_steps.append(report.step)
            self.val_loss.append(report.validation_loss)
        self.seconds, self.tokens_per_second = report.seconds, report.tokens_per_second

    def plot(self):
        """The loss curves, as a picture for a notebook. Needs the notebook extra (matplotlib)."""
        from minigpt.classroom.plots import loss_curve  # only here: the core stands without a front end
        return loss_curve(self)


class GPT:
    """A tokenizer and a model that fit together. `from_text`, `load` and `pretrained` make one."""

    def __init__(self, tokenizer: Tokenizer, model: GPTModel):
        """Raises ValueError where the model has more or fewer tokens than the tokenizer: it would say what nobody can read."""
        instance("tokenizer", tokenizer, Tokenizer)
        instance("model", model, GPTModel)
        if model.config.vocab_size != tokenizer.vocab_size:
            raise ValueError(f"the model's vocab_size must be the tokenizer's, {tokenizer.vocab_size}, "
                             f"not {model.config.vocab_size}")
        self.tokenizer, self.model = tokenizer, model
        self.training_text: TokenizedText | None = None
        self.validation_text: TokenizedText | None = None

    # ---- making one ------------------------------------------------------------------------------------------------------

    @classmethod
    def from_text(cls, text: str | Sequence[str], vocab_size: int | None = None, method: str | None = None,
                  d_model: int | None = None, n_heads: int | None = None, n_layers: int | None = None,
                  d_ff: int | None = None, context_length: int | None = None, dropout: float | None = None,
                  positions: str | None = None, tied: bool | None = None, *, preset: str = "classroom", seed: int = 0,
                  device: str = "cpu") -> "GPT":
        """An untrained GPT for a text, or for several books: the vocabulary is chosen, the weights are random.

        The last 10 % of each book is held out, for the validation loss alone: the tokenizer does not see it either. The sizes
        are those of `GPTConfig`, and what is not given is the preset's. Raises TypeError or ValueError naming the argument.
        """
        training, held_out = corpus.split(_books(text))
        return cls._from_pieces(lambda: training, lambda: held_out, preset, seed, device, vocab_size=vocab_size,
                                method=method, d_model=d_model, n_heads=n_heads, n_layers=n_layers, d_ff=d_ff,
                                context_length=context_length, dropout=dropout, positions=positions, tied=tied)

    @classmethod
    def from_files(cls, sources: Sequence[str | os.PathLike], *, preset: str = "classroom", seed: int = 0,
                   device: str = "cpu", **size) -> "GPT":
        """The same for files (or names of texts that ship) of any length: none is read into memory as a whole."""
        if isinstance(sources, str | bytes) or not isinstance(sources, Sequence) or not sources:
            raise TypeError(f"sources must be a list of files (for one file, a list of one), not {shown(sources)}")
        cuts = [corpus.split_position(source) for source in sources]
        pieces = list(zip(sources, cuts, strict=True))
        return cls._from_pieces(
            lambda: (piece for source, cut in pieces for piece in corpus.read_chunks(source, stop=cut)),
            lambda: (piece for source, cut in pieces for piece in corpus.read_chunks(source, start=cut)),
            preset, seed, device, **size)

    @classmethod
    def _from_pieces(cls, training, held_out, preset, seed, device, **size) -> "GPT":
        integer("seed", seed, low=0, high=2 ** 32 - 1)
        device = find_device(device)
        size = presets.preset(preset).size | {name: value for name, value in size.items() if value is not None}
        vocab_size, method = size.pop("vocab_size"), size.pop("method")
        config = GPTConfig(**size)                                   # a size that cannot be is refused before the work
        tokenizer = Tokenizer.train(training(), vocab_size, method)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = GPTModel(GPTConfig(**asdict(config) | {"vocab_size": tokenizer.vocab_size}))
        gpt = cls(tokenizer, model.to(device))
        gpt.training_text = tokenize(tokenizer, training())
        gpt.validation_text = tokenize(tokenizer, held_out())
        return gpt

    @classmethod
    def pretrained(cls, name: str = "austen", *, bfloat16: bool = False) -> "GPT":
        """The model that ships in `data/`, trained on three novels by Jane Austen; or "smollm2", a chat model that others made.

        For that one `python3 run.py setup real` gets the weights (93 MB), once; `bfloat16` holds them in 16 bits, half the
        memory, where the processor computes with them. Raises FileNotFoundError where the weights are missing.
        """
        instance("bfloat16", bfloat16, bool)
        if choice("name", name, ("austen", "smollm2")) == "smollm2":
            from minigpt.smollm2 import SmolLM2  # it is made of what stands here
            return SmolLM2.read(bfloat16)
        if bfloat16:
            raise ValueError("bfloat16 must be False for the model that ships, which is small, not True")
        return cls.load(corpus.data_folder() / "pretrained.safetensors")

    # ---- training --------------------------------------------------------------------------------------------------------

    def training_loop(self, *, steps: int | None = None, seconds: float | None = None,
                      text: str | Sequence[str] | None = None, preset: str = "classroom", batch_size: int | None = None,
                      learning_rate: float | None = None, label_smoothing: float | None = None, seed: int = 0,
                      evaluations: int = 4) -> Iterator[Report]:
        """Train step by step: a generator of reports, one a step. `train` is the same in one go, and explains the arguments."""
        if text is not None:
            training, held_out = corpus.split(_books(text))
            self.training_text, self.validation_text = tokenize(self.tokenizer, training), tokenize(self.tokenizer, held_out)
        if self.training_text is None:
            raise ValueError("text must be given: this GPT was loaded, and a file holds no training text")
        if steps is None and seconds is None:
            steps, seconds = (presets.preset(preset).budget.get(name) for name in ("steps", "seconds"))
        state = TrainingState(self.model, presets.recipe(preset, batch_size, learning_rate, label_smoothing), seed)
        return training_loop(state, self.training_text, self.validation_text, steps=steps, seconds=seconds,
                             evaluations=evaluations)

    def train(self, steps: int | None = None, *, progress: bool = True, **arguments) -> History:
        """Train for a number of `steps`, or for `seconds`, and tell how it went.

        Keyword arguments: seconds; text (another text, or several, to train on); preset ("classroom" or "reference");
        batch_size, learning_rate, label_smoothing (in place of the preset's); seed; evaluations (how often the validation
        loss is measured). An interrupt (Ctrl-C, or the notebook's stop button) ends training between two steps, keeps the
        model so far, and sets `interrupted`; train again to go on. Raises TypeError or ValueError for a bad argument,
        TrainingDiverged where the loss is no longer finite, with the model back at its last good step.
        """
        from minigpt.progress import stop_request, with_progress_bar
        instance("progress", progress, bool)
        loop = self.training_loop(steps=steps, **arguments)
        history = History()
        with stop_request() as stop:
            for report in with_progress_bar(loop) if progress else loop:
                history.add(report)
                if stop:
                    history.interrupted = True
                    break
        loop.close()            # its last look at the weights, where it was stopped early
        return history

    def evaluate(self, text: str) -> float:
        """The loss on a text, in nats per UTF-8 byte, whatever the tokenizer: the lower, the better it is predicted."""
        if not check_text("text", text):
            raise ValueError("text must have at least one character, not ''")
        return evaluate(self.model, tokenize(self.tokenizer, [text]))

    # ---- talking ---------------------------------------------------------------------------------------------------------

    def generate(self, prompt: str = "", max_new_tokens: int = 200, temperature: float = 0.8, top_k: int | None = None,
                 top_p: float | None = None, seed: int | None = None) -> str:
        """A continuation of `prompt`, without the prompt itself. Temperature 0 is greedy; equal seeds give equal texts."""
        return "".join(self.stream(prompt, max_new_tokens, temperature, top_k, top_p, seed))

    def stream(self, prompt: str = "", max_new_tokens: int = 200, temperature: float = 0.8, top_k: int | None = None,
               top_p: float | None = None, seed: int | None = None) -> Iterator[str]:
        """The same text, piece by piece, as it is sampled. Stop listening to stop it.

        A character whose bytes have not all come is held back until they have; one that stays unfinished is left out.
        """
        ids = generate_ids(self.model, self._prompt_ids(prompt), max_new_tokens, temperature, top_k, top_p, seed)
        return _pieces(self.tokenizer, ids)

    def next_token_probs(self, prompt: str = "", temperature: float = 1.0, top_k: int | None = None,
                         top_p: float | None = None) -> tuple[list[bytes], Tensor]:
        """All tokens and their probabilities (V,) of coming next, most likely first."""
        tokenizer = self.tokenizer                                   # live training may replace it, and the model, meanwhile
        with torch.inference_mode():
            logits = self._model_on(prompt, lambda ids: last_logits(self.model, ids, self.model.new_cache()))
            probs, order = next_token_probs(logits, temperature, top_k, top_p)[0].sort(dim=-1, descending=True, stable=True)
        return [tokenizer.id_to_token(i) for i in order.tolist()], probs.cpu()

    def attention_weights(self, prompt: str) -> Tensor:
        """What each head looks at while it reads `prompt` (its last context_length tokens): (n_layers, n_heads, T, T)."""
        with torch.inference_mode():
            return self._model_on(prompt, self.model.attention_weights)[:, 0].cpu()

    def _model_on(self, prompt: str, function):
        """`function` of the prompt's ids (1, T), in eval mode."""
        ids = self._prompt_ids(prompt)[-self.model.config.context_length:]
        was_training = self.model.training
        self.model.eval()
        try:
            return function(torch.tensor([ids], device=self.device))
        finally:
            self.model.train(was_training)

    def _prompt_ids(self, prompt: str) -> list[int]:
        return self.tokenizer.encode(check_text("prompt", prompt) or START)

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return next(self.model.parameters()).device

    # ---- keeping it ------------------------------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike, half: bool = False) -> None:
        """Write weights, configuration and tokenizer to one safetensors file, atomically.

        `half` stores the weights in 16 bits: half the size, and a loss that differs in the fourth decimal. Raises OSError
        naming the file; the file that was there is then unchanged.
        """
        instance("half", half, bool)
        weights = {name: tensor.half() if half else tensor for name, tensor in self.model.state_dict().items()}
        files.save_tensors(check_path("path", path), KIND, weights, self._metadata())

    def _metadata(self) -> dict[str, str]:
        return {"config": json.dumps(asdict(self.model.config)), "tokenizer": self.tokenizer.to_json()}

    @classmethod
    def load(cls, path: str | os.PathLike, device: str = "cpu") -> "GPT":
        """Read what `save` wrote, on whatever device. Nothing in the file is executed.

        Raises FileNotFoundError, or ValueError naming the file and what is wrong with it; it is all or nothing.
        """
        device = find_device(device)
        weights, metadata = files.load_tensors(check_path("path", path), KIND)
        return cls._from_file(path, weights, metadata, device)

    @classmethod
    def _from_file(cls, path, weights: dict[str, Tensor], metadata: dict[str, str], device: torch.device) -> "GPT":
        try:
            config = GPTConfig(**json.loads(metadata["config"]))
            tokenizer = Tokenizer.from_json(metadata["tokenizer"])
            _check_size(config, weights)
            with torch.random.fork_rng(devices=[]):                  # the first weights are random, and nobody's loss
                gpt = cls(tokenizer, GPTModel(config))
            wanted = {name: tuple(tensor.shape) for name, tensor in gpt.model.state_dict().items()}
            found = {name: tuple(tensor.shape) for name, tensor in weights.items()}
            if wrong := sorted(name for name in wanted | found if wanted.get(name) != found.get(name)):
                raise ValueError(f"{wrong[0]} should be {wanted.get(wrong[0], 'absent')} "
                                 f"and is {found.get(wrong[0], 'absent')}")
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"{path} does not describe a model: {error}") from error
        gpt.model.load_state_dict(weights)
        gpt.model.to(device).eval()
        return gpt

    def __repr__(self) -> str:
        return f"GPT({self.tokenizer!r}, {self.model.config!r}, {self.model.n_parameters:,} parameters)"


def _pieces(tokenizer: Tokenizer, ids: Iterable[int]) -> Iterator[str]:
    """The text of ids, as soon as its characters are whole."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    for i in ids:
        if piece := decoder.decode(tokenizer.id_to_token(i)):
            yield piece


def _check_size(config: GPTConfig, weights: dict[str, Tensor]) -> None:
    """Refuse a configuration far larger than the weights beside it, before memory is taken for it."""
    wanted, found = sum(config.parameter_counts().values()), sum(tensor.numel() for tensor in weights.values())
    if wanted > 2 * found + 1_000_000:
        raise ValueError(f"its configuration asks for {wanted:,} numbers, and it holds {found:,}")


def _books(text: str | Sequence[str]) -> Sequence[str]:
    """`text`, one or several, as a list of texts of at least one character."""
    if isinstance(text, bytes) or not isinstance(text, Sequence):
        raise TypeError(f"text must be a str or a list of them, not {shown(text)}")
    books = [text] if isinstance(text, str) else text
    if not books or not all([check_text("text", book) for book in books]):
        raise ValueError(f"text must have at least one character, not {shown(text)}")
    return books


def tokenize(tokenizer: Tokenizer, pieces: Iterable[str]) -> TokenizedText | None:
    """The ids of a text that comes in pieces, as uint16 in a memory-mapped temporary file; None where there is no text.

    Memory does not grow with the text, and the file goes when nobody needs it any more.
    """
    instance("tokenizer", tokenizer, Tokenizer)
    lengths = np.array([len(token) for token in tokenizer.vocab])
    n_bytes = 0
    with tempfile.TemporaryFile() as file:
        file.write(np.array(tokenizer.encode(START), np.uint16).tobytes())
        for ids in tokenizer.encode_chunks(pieces):
            file.write(ids.tobytes())
            n_bytes += int(lengths[ids].sum())
        file.flush()
        return TokenizedText(np.memmap(file, np.uint16, mode="c"), n_bytes) if n_bytes else None

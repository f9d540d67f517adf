"""GPT: tokenizer and model in one object, that trains, talks, and fits into one file.

Everything else meets here. Text goes in and text comes out.
"""

import codecs
import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, fields, replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from minigpt import arguments, batches, corpus, files, page, presets, sampling, token_file
from minigpt.about import About
from minigpt.arguments import (
    SEED,
    TRAINING_SEED,
    choice,
    flag,
    instance,
    integer,
    or_none,
    shown,
    takes,
)
from minigpt.batches import START, TokenizedText
from minigpt.device import a_device
from minigpt.model import GPTConfig, GPTModel, check_size, evaluating
from minigpt.plugins import plugin
from minigpt.progress import History, shown_bar, stop_request, until_stopped, without_bar
from minigpt.sampling import SETTINGS, last_logits, next_token_probs
from minigpt.tokenizer import VOCABULARY, Tokenizer
from minigpt.training import BUDGET, Report, check_budget, evaluate, training_loop
from minigpt.training_state import TrainingState

KIND = "minigpt model"
SIZES = ("vocab_size", "method",
         *(field.name for field in fields(GPTConfig) if field.name != "vocab_size"))
WRAPPED = re.compile(r"(?:_orig_mod|module)\.")         # what wrappers add to the names of weights
LARGEST_SAMPLE = 100_000_000        # characters that a tokenizer learns from, of a larger text


# What comes to these has passed the guards of the doors below.
tokenize, generate_ids = batches.tokenize.__wrapped__, sampling.generate_ids.__wrapped__


def _one_or_more_books(name, value) -> list[str]:
    """A guard: `value`, one text or several, as a list of texts of at least one character."""
    if isinstance(value, bytes) or not isinstance(value, Sequence):
        raise TypeError(f"{name} must be a str or a list of them, not {shown(value)}")
    books = [value] if isinstance(value, str) else value
    books = [corpus.normalise.__wrapped__(arguments.text(name, book)) for book in books]
    if not books or not all(books):                 # also of a byte order mark nothing is left
        raise ValueError(f"{name} must have at least one character, not {shown(value)}")
    return books


def _one_book(name, value) -> str:
    return _one_or_more_books(name, arguments.text(name, value))[0]


def _sources(name, value) -> Sequence[str | os.PathLike]:
    if isinstance(value, str | bytes) or not isinstance(value, Sequence) or not value:
        raise TypeError(f"{name} must be a list of files (for one file, a list of one), "
                        f"not {shown(value)}")
    return value


def _sizes(preset: str, given: dict) -> tuple[GPTConfig, tuple[int, str]]:
    """What is given of a size, and else the preset's: of the model, and of its vocabulary.

    A size that cannot be is refused here, before the work.
    """
    given = {name: value for name, value in given.items() if value is not None}
    size = presets.preset(preset).size | given
    vocab_size, method = (guard(name, size.pop(name)) for name, guard in VOCABULARY.items())
    config = GPTConfig(vocab_size=vocab_size, **size)
    check_size("config", config)
    return config, (vocab_size, method)


def _tokenizer_for(chunks: Iterable[str], vocab_size: int, method: str, show) -> Tokenizer:
    """A tokenizer for a text in chunks. `show` makes a bar of what takes a while."""
    return Tokenizer.train(show(chunks, "reading"), vocab_size, method,
                           progress=lambda merges, n: show(merges, "merges", n))


def _read_files(sources: Sequence[str | os.PathLike], tokens: Path | None,
                vocabulary: tuple[int, str], show) -> tuple[Tokenizer, list[TokenizedText | None]]:
    """A tokenizer for the texts in files, and the two parts of them as it reads them.

    They are kept in the file `tokens` where one is given, or found there.
    """
    made_of = token_file.key(sources, *vocabulary) if tokens else ""
    if tokens:
        if found := token_file.read(tokens, made_of):
            return found
        files.check_writable(tokens)
    cuts = [(source, corpus.split_position(source)) for source in sources]
    every = math.ceil(sum(cut for _, cut in cuts) / LARGEST_SAMPLE) or 1

    def training():
        return (chunk for source, cut in cuts for chunk in corpus.read_chunks(source, stop=cut))

    def both_parts():
        held_out = (chunk for source, cut in cuts for chunk in corpus.read_chunks(source, cut))
        return show(training(), "tokenizing"), held_out

    tokenizer = _tokenizer_for(islice(training(), 0, None, every), *vocabulary, show)
    if tokens and token_file.written(tokens, made_of, tokenizer, *both_parts()):
        return token_file.read(tokens, made_of)
    return tokenizer, [tokenize(tokenizer, part) for part in both_parts()]


def _same_text(one: TokenizedText, other: TokenizedText | None) -> bool:
    return other is not None and np.array_equal(one.ids, other.ids)


def _title(name, value) -> str | None:
    if value is not None and not arguments.text(name, value).strip():
        raise ValueError(f"{name} must have at least one character that is seen, not {value!r}")
    return value


def _a_gpt(name, value) -> "GPT":
    return instance(GPT)(name, value)


class GPT:
    """A tokenizer and a model that fit together. `from_text`, `load` and `pretrained` make one."""

    @takes(tokenizer=instance(Tokenizer), model=instance(GPTModel))
    def __init__(self, tokenizer: Tokenizer, model: GPTModel):
        """Raises ValueError where the model has not as many tokens as the tokenizer."""
        _check_pair(tokenizer, model.config)
        self.tokenizer, self.model = tokenizer, model
        self.training_text: TokenizedText | None = None
        self.validation_text: TokenizedText | None = None
        self.run: TrainingState | None = None       # the latest: the next reads on behind it
        self.about = About()                        # what is known of how it came to be

    # ---- making one ------------------------------------------------------------------------------

    @classmethod
    @takes(text=_one_or_more_books, seed=TRAINING_SEED, device=a_device, progress=flag)
    def from_text(cls, text: str | Sequence[str], vocab_size: int | None = None,
                  method: str | None = None, *, preset: str = "classroom", seed: int = 0,
                  device: str = "cpu", progress: bool = False, **size) -> "GPT":
        """An untrained GPT for a text, or for several books: chosen vocabulary, random weights.

        The last 10 % of each book is held out, for the validation loss alone: the tokenizer does
        not see it either. Sizes (d_model, n_heads, …) are those of `GPTConfig`, and what is not
        given is the preset's. `progress` shows bars, for a text that takes a while. Raises
        TypeError or ValueError naming the argument.
        """
        config, vocabulary = _sizes(preset, size | {"vocab_size": vocab_size, "method": method})
        show = shown_bar if progress else without_bar
        training, held_out = corpus.split.__wrapped__(text)
        tokenizer = _tokenizer_for(training, *vocabulary, show)
        texts = tokenize(tokenizer, show(training, "tokenizing")), tokenize(tokenizer, held_out)
        return cls._untrained(tokenizer, config, texts, seed, device)

    @classmethod
    @takes(sources=_sources, seed=TRAINING_SEED, device=a_device, progress=flag,
           tokens=or_none(arguments.path))
    def from_files(cls, sources: Sequence[str | os.PathLike], *, preset: str = "classroom",
                   seed: int = 0, device: str = "cpu", progress: bool = False,
                   tokens: str | os.PathLike | None = None, **size) -> "GPT":
        """The same for files (or names of texts that ship), none of which is read as a whole.

        `tokens`: a file that the texts' tokens are kept in, where the disk has room for it. Whoever
        comes with the same texts and the same file, later or in another process, finds them there.
        ValueError for one that is another's. Of texts of more than 100 million characters the
        tokenizer sees so many, spread over all of them.
        """
        config, vocabulary = _sizes(preset, size)
        show = shown_bar if progress else without_bar
        if tokens:
            token_file.check_free(tokens)
        tokenizer, texts = _read_files(sources, tokens, vocabulary, show)
        gpt = cls._untrained(tokenizer, config, texts, seed, device)
        names = ", ".join(os.path.basename(source) for source in sources)
        gpt.about.text = names.encode(errors="replace").decode()    # a name may be no Unicode
        return gpt

    @classmethod
    def _untrained(cls, tokenizer: Tokenizer, config: GPTConfig, texts, seed: int,
                   device: torch.device) -> "GPT":
        """Random weights, for a tokenizer and the two parts of a text."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = GPTModel(replace(config, vocab_size=tokenizer.vocab_size))
        gpt = cls(tokenizer, model.to(device))
        gpt.training_text, gpt.validation_text = texts
        gpt.about.n_bytes = gpt.training_text.n_bytes
        return gpt

    @classmethod
    @takes(name=choice(("austen", "smollm2")), bfloat16=flag)
    def pretrained(cls, name: str = "austen", *, bfloat16: bool = False) -> "GPT":
        """The model that ships in `data/`: it has read Jane Austen, but for the end of Persuasion.
        Or "smollm2", a chat model that others have made, on the same parts.

        For that one `python3 run.py setup real` gets the weights (93 MB), once; `bfloat16` holds
        them in 16 bits, half the memory, where the processor computes with them. Raises
        FileNotFoundError where they are missing.
        """
        if name == "smollm2":       # a plug-in, as it is made of what stands here
            return plugin("pretrained", name)(bfloat16)
        if bfloat16:
            raise ValueError("bfloat16 must be False for the model that ships, not True")
        return cls.load(corpus.data_folder() / "pretrained.safetensors")

    # ---- training --------------------------------------------------------------------------------

    @takes(text=_one_or_more_books, seed=TRAINING_SEED, **BUDGET)
    def training_loop(self, *, steps: int | None = None, seconds: float | None = None,
                      text: str | Sequence[str] | None = None, preset: str = "classroom",
                      batch_size: int | None = None, learning_rate: float | None = None,
                      label_smoothing: float | None = None, accumulate: int | None = None,
                      seed: int = 0, evaluations: int = 4) -> Iterator[Report]:
        """Train step by step: a generator of reports, one a step. `train` explains it."""
        recipe = presets.recipe(preset, batch_size, learning_rate, label_smoothing, accumulate)
        if steps is None and seconds is None:
            budget = presets.preset(preset).budget
            steps, seconds = budget.get("steps"), budget.get("seconds")
        check_budget(steps, seconds)
        _own(self.model)
        state = TrainingState(self.model, recipe, seed)
        texts, run, about = (self.training_text, self.validation_text), self.run, self.about
        if text is not None:
            texts = [tokenize(self.tokenizer, part) for part in corpus.split.__wrapped__(text)]
            if not _same_text(texts[0], self.training_text):        # else it is read on
                run, about = None, about.with_text_of(texts[0].n_bytes)
                if self.training_text is not None:      # of a loaded model, the length has to do
                    about = replace(about, windows_read=None)
        if texts[0] is None:
            raise ValueError("text must be given: this GPT was loaded, and a file holds no "
                             "training text")
        windows_read = run.windows_read if run else about.windows_read or 0
        state.batches_before = math.ceil(windows_read / recipe.batch_size)
        loop = training_loop(state, *texts, steps=steps, seconds=seconds, evaluations=evaluations)
        # Nothing was refused. Until here all is as it was.
        (self.training_text, self.validation_text), self.run, self.about = texts, state, about
        return loop

    @takes(progress=flag)
    def train(self, steps: int | None = None, *, progress: bool = True, **arguments) -> History:
        """Train for a number of `steps`, or for `seconds`, and tell how it went.

        Keyword arguments: seconds; text (another text, or several, to train on); preset
        ("classroom" or "reference"); batch_size, learning_rate, label_smoothing (in place of the
        preset's); accumulate (in how many parts a batch is read that is too large for memory);
        seed; evaluations (how often the validation loss is measured). An interrupt
        (Ctrl-C, or the notebook's stop button) ends training between two steps, keeps the model so
        far, and sets `interrupted`.

        Train again to go on: the text, also where it is given again, is read on from where the last
        training stopped; of a loaded model too, given the text. The learning rate has a schedule of
        its own in each training: it warms up and decays anew, so one long training ends lower than
        many short ones. The last digits of a loss depend on the number of threads
        (`torch.set_num_threads`), since sums are then added up in another order. Raises TypeError
        or ValueError for a bad argument, TrainingDiverged where the loss is no longer finite, with
        the model back at the last step known to be good.
        """
        loop, history = self.training_loop(steps=steps, **arguments), History()
        if progress and self.run.batches_before:
            print(f"Going on: {self.run.windows_read:,} windows of the text have been read. The "
                  "learning rate warms up and decays anew.")
        with stop_request() as stop:
            for report in until_stopped(loop, stop, progress):
                history.add(report)
        self.trained(history)
        return history

    @takes(history=instance(History))
    def trained(self, history: History) -> None:
        """Note in `about` what a training came to; whoever runs the loop by hand tells it here."""
        steps = (self.about.steps or 0) + len(history.steps)
        held_out_loss = history.val_loss[-1] if history.val_loss else None
        self.about = replace(self.about, steps=steps, held_out_loss=held_out_loss,
                             windows_read=self.run.windows_read if self.run else None)

    @takes(text=_one_book)
    def evaluate(self, text: str) -> float:
        """The loss on a text, in nats per UTF-8 byte, whatever the tokenizer. Lower is better."""
        return evaluate(self.model, tokenize(self.tokenizer, [text]))

    @takes(other=_a_gpt)
    def adopt(self, other: "GPT") -> None:
        """Become what `other` is: its tokenizer, its model, its texts, how far it has read."""
        self.__dict__.update(vars(other))

    # ---- talking ---------------------------------------------------------------------------------

    def generate(self, prompt: str = "", max_new_tokens: int = 200, temperature: float = 0.8,
                 top_k: int | None = None, top_p: float | None = None,
                 seed: int | None = None) -> str:
        """A continuation of `prompt`, without the prompt itself.

        Temperature 0 is greedy. Equal seeds give equal texts; None draws a new one.
        """
        return "".join(self.stream(prompt, max_new_tokens, temperature, top_k, top_p, seed))

    @takes(prompt=arguments.text, max_new_tokens=integer(0), seed=SEED, **SETTINGS)
    def stream(self, prompt: str = "", max_new_tokens: int = 200, temperature: float = 0.8,
               top_k: int | None = None, top_p: float | None = None,
               seed: int | None = None) -> Iterator[str]:
        """The same text, piece by piece, as it is sampled. Stop listening to stop it.

        A character whose bytes have not all come is held back until they have; one that stays
        unfinished is left out.
        """
        ids = generate_ids(self.model, self._ids(prompt), max_new_tokens, temperature, top_k, top_p,
                           seed)
        return _characters(self.tokenizer, ids)     # this model's and this tokenizer's, to the end

    @takes(prompt=arguments.text, **SETTINGS)
    @torch.inference_mode()
    def next_token_probs(self, prompt: str = "", temperature: float = 1.0, top_k: int | None = None,
                         top_p: float | None = None) -> tuple[list[bytes], Tensor]:
        """All tokens, and their probabilities (V,) of coming next: the most likely first.

        At temperature 0 too: all but one then have probability 0, in the order of their logits.
        """
        tokenizer = self.tokenizer      # live training may replace it, and the model, meanwhile
        ids = self._last_ids(prompt)[0].tolist()
        logits = last_logits(self.model, ids, self.model.new_cache())               # (1, V)
        probs = next_token_probs.__wrapped__(logits, temperature, top_k, top_p)[0]  # (V,)
        order = logits[0].argsort(descending=True, stable=True)                     # (V,)
        return [tokenizer.id_to_token(i) for i in order.tolist()], probs[order].cpu()

    @takes(prompt=arguments.text)
    @torch.inference_mode()
    def attention_weights(self, prompt: str) -> Tensor:
        """What each head looks at, reading `prompt`: (n_layers, n_heads, T, T).

        T tokens: the last of the prompt, at most context_length of them.
        """
        with evaluating(self.model):
            return self.model.attention_weights(self._last_ids(prompt))[:, 0].cpu()

    def _ids(self, prompt: str) -> list[int]:
        return self.tokenizer.encode(corpus.normalise.__wrapped__(prompt) or START)

    def _last_ids(self, prompt: str) -> Tensor:
        """Those of the prompt's ids that fit into the context, (1, T)."""
        ids = self._ids(prompt)[-self.model.config.context_length:]
        return torch.tensor([ids], device=self.device)

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return next(self.model.parameters()).device

    # ---- keeping it ------------------------------------------------------------------------------

    @takes(path=arguments.path, half=flag)
    def save(self, path: str | os.PathLike, half: bool = False) -> None:
        """Write weights, configuration and tokenizer to one safetensors file, atomically.

        `half` stores the weights in 16 bits: half the size, and a loss that differs in the fourth
        decimal. Raises ValueError for weights that are not finite, or that `load` would not give
        back; OSError naming the file. The file that was there is then unchanged.
        """
        config, weights = self._plain()
        if half:
            weights = {name: _narrowed(name, tensor, torch.half)
                       for name, tensor in weights.items()}
        metadata = {"config": json.dumps(asdict(config)), "tokenizer": self.tokenizer.to_json(),
                    "about": self.about.to_json()}
        files.save_tensors(path, KIND, weights, metadata)

    @takes(path=arguments.path, title=_title, history=instance(History, optional=True))
    def save_page(self, path: str | os.PathLike, title: str | None = None,
                  history: History | None = None) -> None:
        """Write the model as one web page that runs it, in any browser, without a network.

        `title` stands above it; `history`, which `train` returns, gives it the loss curve. The page
        holds the whole model, 16 bits a weight (a small one 32), and so what it may have learned by
        heart. Raises ValueError for a path that does not end in .html and for a model too large for
        a page, or not finite; OSError naming the file. What was there is then unchanged.
        """
        page.check(path, _own(self.model).config)
        config, weights = self._plain()
        page.save(path, self.tokenizer, config, weights, self.about, title, history)

    def _plain(self) -> tuple[GPTConfig, dict[str, Tensor]]:
        """Configuration and weights, of what `load` will take back.

        The model may be wrapped, whole or in parts, as torch.compile does it, and have a head tied
        by hand.
        """
        model = _own(self.model)
        config, weights = model.config, {}
        for name, tensor in model.state_dict().items():
            if not isinstance(tensor, Tensor) or tensor.is_quantized or tensor.is_meta:
                raise ValueError(f"{name} must be a tensor of plain numbers for a model to be kept")
            weights[WRAPPED.sub("", name)] = tensor
        embedding, head = weights.get("token_embedding.weight"), weights.get("head.weight")
        if head is not None and _one_memory(head, embedding):
            config = replace(config, tied=True)
            del weights["head.weight"]
        _check_pair(self.tokenizer, config)
        _model_for(config, weights)
        _check_finite(weights)
        # `load` makes 32 bits of what is wider.
        return config, {name: _narrowed(name, tensor, torch.float)
                        if tensor.dtype == torch.double else tensor
                        for name, tensor in weights.items()}

    @classmethod
    @takes(path=arguments.path, device=a_device)
    def load(cls, path: str | os.PathLike, device: str = "cpu") -> "GPT":
        """Read what `save` wrote, on whatever device. Nothing in the file is executed.

        Raises FileNotFoundError, or ValueError naming the file and what is wrong with it; it is all
        or nothing.
        """
        weights, metadata = files.load_tensors(path, KIND)
        try:
            config = GPTConfig(**json.loads(metadata["config"]))
            tokenizer = Tokenizer.from_json(metadata["tokenizer"])
            about = About.from_json(metadata.get("about", "{}"))    # older files say nothing
            gpt = cls(tokenizer, _model_for(config, weights))
            _check_finite(weights, ", and could say nothing")
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"{path} does not describe a model: {error}") from error
        gpt.model.load_state_dict(weights)
        gpt.model.to(device).eval()
        gpt.about = about
        return gpt

    def __repr__(self) -> str:
        return (f"GPT({self.tokenizer!r}, {self.model.config!r}, "
                f"{self.model.n_parameters:,} parameters)")


def _own(model: nn.Module) -> GPTModel:
    """The model within what wraps it. Raises ValueError for one of other parts, as a Llama's."""
    model = _unwrapped(model)
    if type(getattr(model, "config", None)) is not GPTConfig:
        raise ValueError("model must be a GPTModel with a GPTConfig to be trained or kept, not a "
                         f"{type(model).__name__}")
    return model


def _check_pair(tokenizer: Tokenizer, config: GPTConfig) -> None:
    if config.vocab_size != tokenizer.vocab_size:
        raise ValueError(f"the model's vocab_size must be the tokenizer's, {tokenizer.vocab_size}, "
                         f"not {config.vocab_size}")


def _unwrapped(model: nn.Module) -> nn.Module:
    """The model in what torch.compile and DataParallel make of one, however often."""
    for name in ("_orig_mod", "module"):
        if isinstance(inner := getattr(model, name, None), nn.Module):
            return _unwrapped(inner)
    return model


def _one_memory(one: Tensor, other: Tensor) -> bool:
    """Whether they are the same numbers in the same place."""
    return one.shape == other.shape and one.data_ptr() == other.data_ptr()


def _narrowed(name: str, tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """A weight in fewer bits. Raises ValueError where they cannot hold it."""
    narrow, limits = tensor.to(dtype), torch.finfo(dtype)
    bits = f"in {limits.bits} bits, which hold"
    _check_finite({name: narrow}, f" {bits} at most {limits.max:.6g}; nothing is saved")
    if tensor.any() and not narrow.any():
        least = limits.smallest_normal * limits.eps
        raise ValueError(f"{name} is nothing but 0 {bits} no less than {least:.1g}; nothing is "
                         "saved")
    return narrow


def _characters(tokenizer: Tokenizer, ids: Iterable[int]) -> Iterator[str]:
    """The text of the ids, as soon as its characters are whole."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    for i in ids:
        if piece := decoder.decode(tokenizer.id_to_token(i)):
            yield piece


def _model_for(config: GPTConfig, weights: dict[str, Tensor]) -> GPTModel:
    """A model that the weights fit, still with others. Raises ValueError where there is none."""
    n_wanted = sum(config.parameter_counts().values())
    n_found = sum(tensor.numel() for tensor in weights.values())
    if n_wanted > 2 * n_found + 1_000_000:              # refused before memory is taken for it
        raise ValueError(f"its configuration asks for {n_wanted:,} numbers, and it holds "
                         f"{n_found:,}")
    with torch.random.fork_rng(devices=[]):             # the caller's RNG state stays as it was
        model = GPTModel(config)
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    if wrong := sorted(name for name in wanted | found if wanted.get(name) != found.get(name)):
        raise ValueError(f"{wrong[0]} should be {wanted.get(wrong[0], 'absent')} and is "
                         f"{found.get(wrong[0], 'absent')}")
    return model


def _check_finite(weights: dict[str, Tensor], then: str = "; nothing is saved") -> None:
    """Raise ValueError for a model that could say nothing."""
    for name, tensor in weights.items():
        if not tensor.isfinite().all():
            raise ValueError(f"{name} has infinite or NaN numbers{then}")

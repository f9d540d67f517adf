"""The command line: `minigpt train`, `minigpt sample`, `minigpt evaluate` and `minigpt page`.

A mistake in what was typed, and a file that is not what it should be, end with one sentence and
exit status 2.
"""

import argparse
import os
import signal
import sys
from pathlib import Path

from minigpt import arguments, corpus, presets
from minigpt.console import give_up, sentence, tell
from minigpt.gpt import GPT, SIZES
from minigpt.model import POSITIONS
from minigpt.progress import handled
from minigpt.tokenizer import METHODS
from minigpt.train_command import OUT, RECIPE
from minigpt.train_command import train as train_command
from minigpt.training_state import TrainingDiverged
from minigpt.typed import STANDARD_INPUT, one_file, piped_prompt, text_files
from minigpt.version import __version__

FRACTIONS = ("dropout", "learning_rate", "label_smoothing")
CHOICES = {"method": METHODS, "positions": POSITIONS}


def main(words: list[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):      # a console of cp1252 gets "?" for what it has not
            stream.reconfigure(errors="replace")
    try:
        with handled(_end):
            options = _parser().parse_args(words)
            status = options.command(options)
            print(end="", flush=True)           # while an error of it can still be told
            return status
    except BrokenPipeError:                     # whoever reads, as "head" does, has enough
        return 0
    except (ValueError, TypeError, OSError, MemoryError, TrainingDiverged) as error:
        tell(f"minigpt: {sentence(error)}")
        return 2
    except KeyboardInterrupt:
        tell("minigpt: stopped")
        return 130
    finally:
        _close_output()


def _close_output() -> None:
    """What is printed is written, or given up."""
    try:
        print(end="", flush=True)
    except (OSError, ValueError):
        give_up(sys.stdout)


def _end(number, frame) -> None:
    """A signal, where nothing is trained: what is open is closed, and what is temporary goes."""
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(128 + number)


# ---- what may be typed ---------------------------------------------------------------------------

def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "minigpt", description="A small GPT: train it, let it talk, measure it.")
    parser.add_argument("--version", action="version", version=f"minigpt {__version__}")
    commands = parser.add_subparsers(required=True, metavar="train | sample | evaluate | page")
    _add_train(commands.add_parser("train", help="train a model on one text or several"))
    _add_sample(commands.add_parser("sample", help="let a model continue a prompt"))
    _add_evaluate(commands.add_parser("evaluate", help="measure how well it predicts a text"))
    _add_page(commands.add_parser("page", help="write a model as one web page that runs it"))
    return parser


def _words(word: str) -> str:
    """What was typed, where the locale of C has made no characters of it."""
    try:
        return os.fsencode(word).decode("utf-8")
    except UnicodeError:
        return word


def _path(word: str) -> Path:
    try:
        if word == STANDARD_INPUT:
            raise ValueError(f"path must be the path of a file, not {word!r}")
        return arguments.path("path", word)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _model(word: str) -> Path:
    try:
        return _path(one_file(word))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _add_train(train: argparse.ArgumentParser) -> None:
    train.add_argument("texts", nargs="+", help="UTF-8 files, - for standard input, or names of "
                       f"texts that ship ({', '.join(corpus.NAMES)})")
    train.add_argument("--out", type=_path, help="where the model goes, also in place of one that "
                       f"is there (default: {OUT}, which must not be there)")
    train.add_argument("--preset", default="classroom", choices=list(presets.PRESETS),
                       help="default: classroom")
    budget = train.add_mutually_exclusive_group()
    budget.add_argument("--steps", type=int, help="train for so many steps")
    budget.add_argument("--seconds", type=float, help="train for so many seconds")
    for name in SIZES + RECIPE:
        how = {"type": float if name in FRACTIONS else str if name in CHOICES else int,
               "choices": CHOICES.get(name), "help": "default: the preset's"}
        if name == "tied":
            how = {"action": argparse.BooleanOptionalAction,
                   "help": "the head is the token embedding (default: the preset's)"}
        train.add_argument("--" + name.replace("_", "-"), **how)
    train.add_argument("--accumulate", type=int, default=1, metavar="PARTS",
                       help="read a batch in so many parts, where it is too large for memory "
                       "(default: 1)")
    train.add_argument("--evaluations", type=int, default=4,
                       help="how often the validation loss is measured (default: 4)")
    train.add_argument("--seed", type=int, default=0, help="default: 0")
    _add_device(train)
    train.add_argument("--compile", action="store_true",
                       help="let torch.compile translate the model first: a minute, or several, "
                       "which a long run on a GPU wins back")
    train.add_argument("--half", action="store_true", help="store the weights in 16 bits")
    begin = train.add_mutually_exclusive_group()
    begin.add_argument("--resume", action="store_true",
                       help="go on with the same command where it was stopped")
    begin.add_argument("--restart", action="store_true",
                       help="begin anew, though an unfinished run is there")
    train.add_argument("--save-every", type=int, default=100, metavar="STEPS",
                       help="write down the run so often, to resume it from there (default: 100)")
    train.set_defaults(command=train_command)


def _add_sample(sample: argparse.ArgumentParser) -> None:
    sample.add_argument("model", type=_model)
    sample.add_argument("--prompt", type=_words,
                        help="default: what is piped in, else the empty prompt")
    sample.add_argument("--max-new-tokens", type=int, default=200, help="default: 200")
    sample.add_argument("--temperature", type=float, default=0.8,
                        help="0 is greedy (default: 0.8)")
    sample.add_argument("--top-k", type=int)
    sample.add_argument("--top-p", type=float)
    sample.add_argument("--seed", type=int)
    _add_device(sample)
    sample.set_defaults(command=_sample)


def _add_evaluate(evaluate: argparse.ArgumentParser) -> None:
    evaluate.add_argument("model", type=_model)
    evaluate.add_argument("text", help="a UTF-8 file, - for standard input, or the name of a text "
                          "that ships")
    evaluate.add_argument("--held-out", action="store_true",
                          help="only the last 10 %%, on which it was not trained")
    _add_device(evaluate)
    evaluate.set_defaults(command=_evaluate)


def _add_page(page: argparse.ArgumentParser) -> None:
    page.add_argument("model", type=_model)
    page.add_argument("page", type=_path, help="where the page goes (.html)")
    page.add_argument("--title", type=_words, help="what stands above it")
    page.set_defaults(command=_page)


def _add_device(command: argparse.ArgumentParser) -> None:
    command.add_argument("--device", default="cpu", help="cpu, cuda, mps or auto (default: cpu)")


# ---- sample, evaluate, page ----------------------------------------------------------------------

def _sample(options) -> int:
    gpt = GPT.load(options.model, options.device)
    prompt = piped_prompt() if options.prompt is None else options.prompt
    pieces = gpt.stream(prompt, options.max_new_tokens, options.temperature, options.top_k,
                        options.top_p, options.seed)
    print(prompt, end="", flush=True)
    for piece in pieces:
        print(piece, end="", flush=True)
    print()
    return 0


def _evaluate(options) -> int:
    gpt = GPT.load(options.model, options.device)
    with text_files([one_file(options.text)]) as (source,):
        text = corpus.read_text(source)
    if options.held_out:
        (text,) = corpus.split([text])[1]
        if not text:
            raise ValueError(f"{options.text} is too short: the last 10 % of it is not one "
                             "character")
    print(f"{gpt.evaluate(text):.3f} nats per byte")
    return 0


def _page(options) -> int:
    GPT.load(options.model).save_page(options.page, options.title)
    megabytes = options.page.stat().st_size / 1e6
    print(f"saved {options.page} ({megabytes:.1f} MB): open it in any browser")
    return 0


if __name__ == "__main__":
    sys.exit(main())

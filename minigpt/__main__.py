"""The command line: `minigpt train`, `minigpt sample`, `minigpt evaluate` and `minigpt page`.

A mistake in what was typed, and a file that is not what it should be, end with one sentence and
exit status 2.
"""

import argparse
import glob
import os
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

import torch

import minigpt
from minigpt import arguments, corpus, files, presets, token_file
from minigpt.alone import Alone
from minigpt.device import find_device
from minigpt.gpt import GPT, SIZES
from minigpt.model import POSITIONS
from minigpt.progress import stop_request, until_stopped
from minigpt.ranks import joined
from minigpt.run_file import RunFile
from minigpt.tokenizer import METHODS
from minigpt.training import training_loop
from minigpt.training_state import TrainingDiverged, TrainingState, check_rows

RECIPE = ("batch_size", "learning_rate", "label_smoothing")     # what a run is resumed with, too
FRACTIONS = ("dropout", "learning_rate", "label_smoothing")
CHOICES = {"method": METHODS, "positions": POSITIONS}
OUT = Path("model.safetensors")
STANDARD_INPUT = "-"


def main(words: list[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):      # a console of cp1252 gets "?" for what it has not
            stream.reconfigure(errors="replace")
    options = _parser().parse_args(words)
    try:
        return options.command(options)
    except BrokenPipeError:                     # whoever reads, as "head" does, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, TypeError, OSError, MemoryError, TrainingDiverged) as error:
        print(f"minigpt: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("minigpt: stopped", file=sys.stderr)
        return 130


# ---- what may be typed ---------------------------------------------------------------------------

def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "minigpt", description="A small GPT: train it, let it talk, measure it.")
    parser.add_argument("--version", action="version", version=f"minigpt {minigpt.__version__}")
    commands = parser.add_subparsers(required=True, metavar="train | sample | evaluate | page")
    _add_train(commands.add_parser("train", help="train a model on one text or several"))
    _add_sample(commands.add_parser("sample", help="let a model continue a prompt"))
    _add_evaluate(commands.add_parser("evaluate", help="measure how well it predicts a text"))
    _add_page(commands.add_parser("page", help="write a model as one web page that runs it"))
    return parser


def _path(word: str) -> Path:
    try:
        return arguments.path("path", word)
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
    train.set_defaults(command=_train)


def _add_sample(sample: argparse.ArgumentParser) -> None:
    sample.add_argument("model", type=_path)
    sample.add_argument("--prompt", help="default: what is piped in, else the empty prompt")
    sample.add_argument("--max-new-tokens", type=int, default=200, help="default: 200")
    sample.add_argument("--temperature", type=float, default=0.8,
                        help="0 is greedy (default: 0.8)")
    sample.add_argument("--top-k", type=int)
    sample.add_argument("--top-p", type=float)
    sample.add_argument("--seed", type=int)
    _add_device(sample)
    sample.set_defaults(command=_sample)


def _add_evaluate(evaluate: argparse.ArgumentParser) -> None:
    evaluate.add_argument("model", type=_path)
    evaluate.add_argument("text", help="a UTF-8 file, - for standard input, or the name of a text "
                          "that ships")
    evaluate.add_argument("--held-out", action="store_true",
                          help="only the last 10 %%, on which it was not trained")
    _add_device(evaluate)
    evaluate.set_defaults(command=_evaluate)


def _add_page(page: argparse.ArgumentParser) -> None:
    page.add_argument("model", type=_path)
    page.add_argument("page", type=_path, help="where the page goes (.html)")
    page.add_argument("--title", help="what stands above it")
    page.set_defaults(command=_page)


def _add_device(command: argparse.ArgumentParser) -> None:
    command.add_argument("--device", default="cpu", help="cpu, cuda, mps or auto (default: cpu)")


@contextmanager
def _files(words: list[str]) -> Iterator[list[str | Path]]:
    """The files, or names of texts, that were typed: patterns spelled out, standard input in one.

    A shell spells patterns out by itself; Windows' command line does not.
    """
    sources: list[str | Path] = []
    with tempfile.TemporaryDirectory() as folder:
        for word in words:
            if word == STANDARD_INPUT:
                sources.append(Path(folder) / "standard input")
                sources[-1].write_bytes(sys.stdin.buffer.read())
            elif glob.has_magic(word) and not os.path.exists(word):
                sources += sorted(map(Path, glob.glob(os.path.expanduser(word)))) or [word]
            else:
                sources.append(word)
        yield sources


# ---- train ---------------------------------------------------------------------------------------

def _train(options) -> int:
    with joined(find_device(options.device).type) as ranks, ExitStack() as stack:
        with ranks.together():
            if STANDARD_INPUT in options.texts and ranks.size > 1:
                raise ValueError("standard input (-) has one reader: give several processes a file")
            options.texts = stack.enter_context(_files(options.texts))
            out, run_file = _check_before(options, ranks)
            if ranks.is_first:
                stack.enter_context(run_file.alone())
            started_with = _started_with(options) if ranks.size > 1 else {}
        ranks.check_alike(started_with)
        with _compiler_explained():
            return _train_on(options, out, run_file, ranks)


@contextmanager
def _compiler_explained() -> Iterator[None]:
    """In here an error of torch.compile's, as where there is no compiler, becomes a sentence."""
    try:
        yield
    except RuntimeError as error:
        if not type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
            raise
        reason = str(error).partition("\n")[0]
        raise ValueError("--compile: torch.compile cannot translate the model here, leave it out "
                         f"({reason})") from error


def _check_before(options, ranks: Alone) -> tuple[Path, RunFile]:
    """Where the model and the run go. Raises an error for all that can be known to end badly."""
    check_rows(_recipe(options), ranks)
    if options.out is None and OUT.exists():
        raise ValueError(f"{OUT} is there already: name another file with --out, or this one, to "
                         "replace it")
    out = options.out or OUT
    if out.is_dir() or not out.name:
        raise ValueError(f"--out must be the path of a file, not of the folder {out}")
    run_file = RunFile(out, _settings(options))
    if not out.parent.is_dir():
        raise FileNotFoundError(f"--out: there is no folder {out.parent}")
    if options.save_every < 1:
        raise ValueError(f"--save-every must be at least 1, not {options.save_every}")
    for source in options.texts:
        text = corpus.text_file("text", source)
        for path, what in ((out, "the model"), (run_file.path, "the run"),
                           (run_file.tokens, "its tokens")):
            if path.exists() and path.samefile(text):
                raise ValueError(f"--out {out} would replace the text {source} by {what}: choose "
                                 "another name")
    if ranks.is_first:                      # the others write nothing
        run_file.check_tokens()
        if not options.resume:
            run_file.check_free(options.restart)
        for path in (out, run_file.path, run_file.tokens):
            files.check_writable(path)
    return out, run_file


def _recipe(options) -> presets.Recipe:
    given = {name: getattr(options, name) for name in RECIPE}
    return presets.recipe(options.preset, **given, accumulate=options.accumulate)


def _settings(options) -> dict:
    """All that a run depends on; a run can be resumed with the same settings only."""
    budget = {"steps": options.steps, "seconds": options.seconds}
    if budget == {"steps": None, "seconds": None}:
        budget |= presets.preset(options.preset).budget
    names = ("preset", "evaluations", "seed", *SIZES, *RECIPE)
    return budget | {name: getattr(options, name) for name in names}


def _started_with(options) -> dict[str, str]:
    """All in which ranks may differ, and must not."""
    options_alike = ("device", "accumulate", "compile", "save_every", "resume", "restart")
    words = _settings(options) | {name: getattr(options, name) for name in options_alike}
    words |= {"minigpt": minigpt.__version__, "torch": torch.__version__}
    words |= {f"the SHA-256 of text {i}": corpus.digest(source)
              for i, source in enumerate(options.texts, 1)}
    return {name: str(word) for name, word in words.items()}


def _train_on(options, out: Path, run_file: RunFile, ranks: Alone) -> int:
    """Train, on every rank; the first one writes and speaks."""
    with ranks.together(in_turn=True):
        size = {name: getattr(options, name) for name in SIZES}
        gpt = GPT.from_files(options.texts, preset=options.preset, seed=options.seed,
                             device=ranks.device(options.device), progress=ranks.is_first,
                             tokens=run_file.tokens, **size)
        settings = run_file.settings
        settings["text"] = token_file.header_of(run_file.tokens)["parts"][0]["sha256"]
    state = TrainingState(gpt.model, _recipe(options), options.seed, ranks=ranks,
                          compiled=options.compile)
    say = print if ranks.is_first else _nothing
    with ranks.together():
        if options.resume:
            run_file.load(state)
            say(f"going on from step {state.step}")
        loop = training_loop(state, gpt.training_text, gpt.validation_text,
                             steps=settings["steps"], seconds=settings["seconds"],
                             evaluations=options.evaluations)

    def save(step):
        gpt.about = replace(gpt.about, steps=step, held_out_loss=state.validation_loss)
        gpt.save(out, half=options.half)

    if ranks.size > 1:
        say(f"training on {ranks.size} processes")
    try:
        with stop_request(ranks) as stop:
            for report in until_stopped(loop, stop, progress=ranks.is_first):
                if report.step % options.save_every == 0:
                    state.check()                   # on every rank, so that all find the same
                    with ranks.together():
                        if ranks.is_first:
                            run_file.save(state)
    except KeyboardInterrupt:
        if not stop.at_once:
            raise
    except TrainingDiverged:
        with ranks.together():
            step, _ = state.good
            if step > 0 and ranks.is_first:
                run_file.give_way(lambda: save(step))
                print(f"saved {out}, the model of step {step}", file=sys.stderr)
            raise
    stopped = stop.at_once or stop.of_any()
    # In the middle of a step the others wait elsewhere, and there is nothing to go on from.
    with nullcontext() if stop.at_once else ranks.together():
        if ranks.is_first:
            run_file.give_way(lambda: save(state.step))
            if stopped and not stop.at_once:
                run_file.save(state)
            if not stopped:
                run_file.remove()
    if stopped:
        how = "; the same command with --resume goes on" if run_file.path.exists() else ""
        say(f"stopped at step {state.step}; saved {out}{how}")
        return 130
    measured = ""
    if state.validation_loss is not None:
        measured = f", held-out loss {state.validation_loss:.3f} nats per byte"
    say(f"{state.step} steps in {state.seconds:.0f} s{measured}; saved {out}")
    return 0


def _nothing(words: str) -> None:
    """What all ranks but the first have to say."""


# ---- sample, evaluate, page ----------------------------------------------------------------------

def _sample(options) -> int:
    gpt = GPT.load(options.model, options.device)
    prompt = _piped() if options.prompt is None else options.prompt
    pieces = gpt.stream(prompt, options.max_new_tokens, options.temperature, options.top_k,
                        options.top_p, options.seed)
    print(prompt, end="", flush=True)
    for piece in pieces:
        print(piece, end="", flush=True)
    print()
    return 0


def _piped() -> str:
    """What another program, or a file, gives to standard input, without its last line break."""
    try:
        mode = os.fstat(sys.stdin.fileno()).st_mode
    except (AttributeError, OSError, ValueError):           # there is no standard input
        return ""
    if not (stat.S_ISFIFO(mode) or stat.S_ISREG(mode)):
        return ""
    return sys.stdin.buffer.read().decode("utf-8-sig").removesuffix("\n").removesuffix("\r")


def _evaluate(options) -> int:
    gpt = GPT.load(options.model, options.device)
    with _files([options.text]) as (source,):
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

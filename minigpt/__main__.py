"""The command line: `minigpt train`, `minigpt sample` and `minigpt evaluate`.

A mistake in what was typed, and a file that is not what it should be, end with one sentence and exit status 2.
"""

import argparse
import hashlib
import json
import sys
from pathlib import Path

from minigpt import corpus, files, presets
from minigpt.gpt import GPT, SIZES
from minigpt.model import POSITIONS
from minigpt.progress import stop_request, until_stopped
from minigpt.tokenizer import METHODS
from minigpt.training import training_loop
from minigpt.training_state import TrainingDiverged, TrainingState

RUN_KIND = "minigpt training run"
RECIPE = ("batch_size", "learning_rate", "label_smoothing")


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):                      # a console that knows cp1252 only gets "?" for the rest
            stream.reconfigure(errors="replace")
    options = _parser().parse_args(arguments)
    try:
        return options.command(options)
    except (ValueError, TypeError, OSError, MemoryError, TrainingDiverged) as error:
        print(f"minigpt: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("minigpt: stopped", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("minigpt", description="A small GPT: train it, let it talk, measure it.")
    commands = parser.add_subparsers(required=True, metavar="train | sample | evaluate")

    train = commands.add_parser("train", help="train a model on one text or several")
    train.add_argument("texts", nargs="+", help=f"UTF-8 files, or names of texts that ship ({', '.join(corpus.NAMES)})")
    train.add_argument("--out", required=True, type=Path, help="where the model goes (.safetensors)")
    train.add_argument("--preset", default="classroom", choices=list(presets.PRESETS), help="default: classroom")
    budget = train.add_mutually_exclusive_group()
    budget.add_argument("--steps", type=int, help="train for so many steps")
    budget.add_argument("--seconds", type=float, help="train for so many seconds")
    for name in SIZES + RECIPE:
        choices = {"method": METHODS, "positions": POSITIONS}.get(name)
        kind = str if choices else float if name in ("dropout", "learning_rate", "label_smoothing") else int
        how = {"action": argparse.BooleanOptionalAction} if name == "tied" else {"type": kind, "choices": choices}
        what = "the head is the token embedding (default: the preset's)" if name == "tied" else "default: the preset's"
        train.add_argument("--" + name.replace("_", "-"), help=what, **how)
    train.add_argument("--evaluations", type=int, default=4, help="how often the validation loss is measured (default: 4)")
    train.add_argument("--seed", type=int, default=0, help="default: 0")
    train.add_argument("--device", default="cpu", help="cpu, cuda, mps or auto (default: cpu)")
    train.add_argument("--half", action="store_true", help="store the weights in 16 bits")
    train.add_argument("--resume", action="store_true", help="go on with the same command where it was stopped")
    train.add_argument("--save-every", type=int, default=100, metavar="STEPS",
                       help="write down the run so often, to resume it from there (default: 100)")
    train.set_defaults(command=_train)

    sample = commands.add_parser("sample", help="let a model continue a prompt")
    sample.add_argument("model", type=Path)
    sample.add_argument("--prompt", default="", help="default: the empty prompt")
    sample.add_argument("--max-new-tokens", type=int, default=200, help="default: 200")
    sample.add_argument("--temperature", type=float, default=0.8, help="0 is greedy (default: 0.8)")
    sample.add_argument("--top-k", type=int)
    sample.add_argument("--top-p", type=float)
    sample.add_argument("--seed", type=int)
    sample.add_argument("--device", default="cpu", help="cpu, cuda, mps or auto (default: cpu)")
    sample.set_defaults(command=_sample)

    evaluate = commands.add_parser("evaluate", help="measure how well a model predicts a text")
    evaluate.add_argument("model", type=Path)
    evaluate.add_argument("text", help="a UTF-8 file, or the name of a text that ships")
    evaluate.add_argument("--held-out", action="store_true", help="only the last 10 %%, on which it was not trained")
    evaluate.add_argument("--device", default="cpu", help="cpu, cuda, mps or auto (default: cpu)")
    evaluate.set_defaults(command=_evaluate)
    return parser


def _train(options) -> int:
    settings = _settings(options)
    if not options.out.name or options.out.is_dir():
        raise ValueError(f"--out must be the path of a file, not of the folder {options.out}")
    run_file = options.out.with_name(options.out.name + ".run")
    if not options.out.parent.is_dir():
        raise FileNotFoundError(f"--out: there is no folder {options.out.parent}")
    if options.save_every < 1:
        raise ValueError(f"--save-every must be at least 1, not {options.save_every}")
    recipe = presets.recipe(options.preset, *(getattr(options, name) for name in RECIPE))
    size = {name: getattr(options, name) for name in SIZES}
    gpt = GPT.from_files(options.texts, preset=options.preset, seed=options.seed, device=options.device, **size)
    settings["text"] = hashlib.sha256(gpt.training_text.ids).hexdigest()
    state = TrainingState(gpt.model, recipe, options.seed)
    if options.resume:
        _resume(run_file, settings, state)
        print(f"going on from step {state.step}")
    loop = training_loop(state, gpt.training_text, gpt.validation_text, steps=settings["steps"],
                         seconds=settings["seconds"], evaluations=options.evaluations)
    validation_loss = None
    try:
        with stop_request() as stop:
            for report in until_stopped(loop, stop):
                validation_loss = report.validation_loss or validation_loss
                if stop or report.step % options.save_every == 0:
                    files.save_tensors(run_file, RUN_KIND, state.tensors(), {"settings": json.dumps(settings)})
    except TrainingDiverged:
        if state.good[0] > 0:
            gpt.save(options.out, half=options.half)
            print(f"saved {options.out}, the model of step {state.good[0]}", file=sys.stderr)
        raise
    gpt.save(options.out, half=options.half)
    if stop:
        print(f"stopped at step {state.step}; saved {options.out}; the same command with --resume goes on")
        return 130
    run_file.unlink(missing_ok=True)
    measured = "" if validation_loss is None else f", held-out loss {validation_loss:.3f} nats per byte"
    print(f"{state.step} steps in {state.seconds:.0f} s{measured}; saved {options.out}")
    return 0


def _settings(options) -> dict:
    """All that a run depends on; a run can be resumed with the same settings only."""
    budget = {"steps": options.steps, "seconds": options.seconds}
    if budget == {"steps": None, "seconds": None}:
        budget |= presets.preset(options.preset).budget
    names = ("preset", "evaluations", "seed", *SIZES, *RECIPE)
    return budget | {name: getattr(options, name) for name in names}


def _resume(run_file: Path, settings: dict, state: TrainingState) -> None:
    if not run_file.exists():
        raise FileNotFoundError(f"--resume: there is no run to go on with at {run_file}; leave --resume out to begin one")
    tensors, metadata = files.load_tensors(run_file, RUN_KIND)
    before = json.loads(metadata["settings"])
    if changed := [name for name in settings if settings[name] != before.get(name)]:
        raise ValueError("--resume: the run was begun with other settings: " + ", ".join(
            f"{name} was {before.get(name)} and is {settings[name]}" for name in changed))
    state.load(tensors)


def _sample(options) -> int:
    gpt = GPT.load(options.model, options.device)
    pieces = gpt.stream(options.prompt, options.max_new_tokens, options.temperature, options.top_k, options.top_p,
                        options.seed)
    print(options.prompt, end="", flush=True)
    for piece in pieces:
        print(piece, end="", flush=True)
    print()
    return 0


def _evaluate(options) -> int:
    gpt = GPT.load(options.model, options.device)
    text = corpus.read_text(options.text)
    if options.held_out:
        (text,) = corpus.split([text])[1]
    print(f"{gpt.evaluate(text):.3f} nats per byte")
    return 0


if __name__ == "__main__":
    sys.exit(main())

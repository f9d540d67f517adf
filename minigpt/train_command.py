"""`minigpt train`: what can go wrong is found out before the work, and nothing is lost after it.

On several ranks every one of them trains, and the first alone writes and speaks.
"""

import io
import os
import sys
from collections.abc import Iterator
from contextlib import (
    ExitStack,
    contextmanager,
    nullcontext,
    redirect_stderr,
    redirect_stdout,
)
from dataclasses import replace
from pathlib import Path

import torch

from minigpt import corpus, files, presets, token_file
from minigpt.alone import Alone
from minigpt.console import give_up, tell
from minigpt.device import find_device
from minigpt.gpt import GPT, SIZES
from minigpt.gpt import KIND as MODEL
from minigpt.progress import StopRequest, stop_request, unhurried, until_stopped
from minigpt.ranks import joined
from minigpt.run_file import RunFile
from minigpt.training import BUDGET, training_loop
from minigpt.training_state import TrainingDiverged, TrainingState, check_rows
from minigpt.typed import STANDARD_INPUT, text_files
from minigpt.version import __version__

RECIPE = ("batch_size", "learning_rate", "label_smoothing")     # what a run is resumed with, too
OUT = Path("model.safetensors")


def train(options) -> int:
    """Train as the options say; returns the exit status."""
    with (redirect_stdout(Unheard(sys.stdout)), redirect_stderr(Unheard(sys.stderr)),
          joined(find_device(options.device).type) as ranks, ExitStack() as stack):
        with ranks.together():
            if STANDARD_INPUT in options.texts and ranks.size > 1:
                raise ValueError("standard input (-) has one reader: give several processes a file")
            options.texts = stack.enter_context(text_files(options.texts))
            out, run_file = _check_before(options, ranks)
            if ranks.is_first:
                stack.enter_context(run_file.alone())
            started_with = _started_with(options) if ranks.size > 1 else {}
        ranks.check_alike(started_with)
        with _compiler_explained():
            return Training(options, out, run_file, ranks).to_its_end()


class Unheard:
    """A stream whose reader may go away, as `tee` does at Ctrl-C: a training does not end with it.

    What is written then is lost, and nothing else.
    """

    def __init__(self, stream):
        self.stream = stream or io.StringIO()           # none where it was closed from the start

    def write(self, text: str) -> int:
        """As the stream's."""
        try:
            return self.stream.write(text)
        except (OSError, ValueError):
            return self._given_up(len(text))

    def flush(self) -> None:
        """As the stream's."""
        try:
            self.stream.flush()
        except (OSError, ValueError):
            self._given_up()

    def _given_up(self, n_written: int = 0) -> int:
        give_up(self.stream)
        self.stream = io.StringIO()
        return n_written

    def __getattr__(self, name: str):
        return getattr(self.stream, name)


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


# ---- before --------------------------------------------------------------------------------------

def _check_before(options, ranks: Alone) -> tuple[Path, RunFile]:
    """Where the model and the run go. Raises an error for all that can be known to end badly."""
    for name, guard in BUDGET.items():
        guard(name, getattr(options, name))
    check_rows(_recipe(options), ranks)
    if options.out is None and OUT.exists() and not options.resume:
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
    texts = [corpus.text_file("text", source) for source in options.texts]
    for i, (source, text) in enumerate(zip(options.texts, texts, strict=True)):
        if any(text.samefile(other) for other in texts[:i]):
            raise ValueError(f"the text {source} is given twice")
        for path, what in ((out, "the model"), (run_file.path, "the run"),
                           (run_file.tokens, "its tokens"), (run_file.lock, "its mark")):
            if os.path.exists(path) and path.samefile(text):
                raise ValueError(f"--out {out} would replace the text {source} by {what}: choose "
                                 "another name")
    if ranks.is_first:                      # the others write nothing
        files.check_replaces(out, f"{MODEL} file", files.kind_of(out) == MODEL)
        token_file.check_free(run_file.tokens)
        run_file.check_lock()
        if options.resume:
            run_file.check_resumable()
        else:
            run_file.check_free(options.restart)
        for path in (out, run_file.path, run_file.tokens, run_file.lock):
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
    words |= {"minigpt": __version__, "torch": torch.__version__}
    words |= {f"the SHA-256 of text {i}": corpus.digest(source)
              for i, source in enumerate(options.texts, 1)}
    return {name: str(word) for name, word in words.items()}


# ---- the training --------------------------------------------------------------------------------

class Training:
    """One training, from the texts to the file of the model."""

    def __init__(self, options, out: Path, run_file: RunFile, ranks: Alone):
        self.options, self.out, self.run_file, self.ranks = options, out, run_file, ranks
        with ranks.together(in_turn=True):
            size = {name: getattr(options, name) for name in SIZES}
            self.gpt = GPT.from_files(options.texts, preset=options.preset, seed=options.seed,
                                      device=ranks.device(options.device), progress=ranks.is_first,
                                      tokens=run_file.tokens, **size)
            run_file.settings["text"] = token_file.digest(self.gpt.training_text.ids)
        self.state = TrainingState(self.gpt.model, _recipe(options), options.seed, ranks=ranks,
                                   compiled=options.compile)

    def to_its_end(self) -> int:
        """Train, save, and say what came of it; returns the exit status."""
        loop = self._begin()
        with stop_request(self.ranks) as stop:
            try:
                self._step_by_step(loop, stop)
            except TrainingDiverged:
                self._save_what_was_good()
                raise
            stopped = stop.at_once or stop.of_any()
            # In the middle of a step the others wait elsewhere, and there is nothing to go on from.
            with unhurried(), nullcontext() if stop.at_once else self.ranks.together():
                if self.ranks.is_first:
                    self._save(stopped, resumable=not stop.at_once)
        self._say(self._what_came_of_it(stopped))
        return 130 if stopped else 0

    def _begin(self):
        """The loop, at its beginning, or at the step where it was stopped."""
        settings = self.run_file.settings
        with self.ranks.together():
            if self.options.resume:
                self.run_file.load(self.state)
                self._say(f"going on from step {self.state.step}")
            loop = training_loop(self.state, self.gpt.training_text, self.gpt.validation_text,
                                 steps=settings["steps"], seconds=settings["seconds"],
                                 evaluations=self.options.evaluations)
        if self.ranks.size > 1:
            self._say(f"training on {self.ranks.size} processes")
        return loop

    def _step_by_step(self, loop, stop: StopRequest) -> None:
        """Ends where the loop ends, or somebody asks to stop; writes the run down now and then."""
        try:
            for report in until_stopped(loop, stop, progress=self.ranks.is_first):
                if report.step % self.options.save_every == 0:
                    self.state.check()                  # on every rank, so that all find the same
                    with self.ranks.together():
                        if self.ranks.is_first:
                            self.run_file.save(self.state)
        except KeyboardInterrupt:
            if not stop.at_once:
                raise

    def _save(self, stopped: bool, resumable: bool) -> None:
        """The model, and the run where there is something to go on with."""
        if self.state.step == 0:                    # what may be there already is worth more
            return
        self.run_file.give_way(lambda: self._write(self.state.step))
        if stopped and resumable:
            self.run_file.save(self.state)
        if not stopped:
            self.run_file.remove()

    def _save_what_was_good(self) -> None:
        """The model of the last step that is known to be good."""
        with self.ranks.together(), unhurried():
            step, _ = self.state.good
            if step > 0 and self.ranks.is_first:
                self.run_file.give_way(lambda: self._write(step))
                tell(f"saved {self.out}, the model of step {step}")

    def _write(self, step: int) -> None:
        gpt, half = self.gpt, self.options.half
        gpt.about = replace(gpt.about, steps=step, held_out_loss=self.state.validation_loss,
                            windows_read=step * self.state.recipe.batch_size)
        try:
            gpt.save(self.out, half=half)
        except ValueError as error:                 # what 16 bits cannot hold is not thrown away
            if not half:
                raise
            tell(f"minigpt: --half: {error}. So the weights are saved in 32 bits")
            gpt.save(self.out)

    def _what_came_of_it(self, stopped: bool) -> str:
        state = self.state
        if state.step == 0:
            return "stopped before the first step was done: nothing is saved"
        if stopped:
            how = "; the same command with --resume goes on" if self.run_file.path.exists() else ""
            return f"stopped at step {state.step}; saved {self.out}{how}"
        measured = ""
        if state.validation_loss is not None:
            measured = f", held-out loss {state.validation_loss:.3f} nats per byte"
        return f"{state.step} steps in {state.seconds:.0f} s{measured}; saved {self.out}"

    def _say(self, words: str) -> None:
        if self.ranks.is_first:
            print(words, flush=True)

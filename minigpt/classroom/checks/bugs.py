"""The checks of 05_bug_hunt alone: bytes for any text, a training step, loading."""

import copy
import random
import tempfile
import unicodedata
from pathlib import Path

import numpy
import torch
from torch.nn import functional as F

from minigpt import GPT, GPTConfig, GPTModel, Tokenizer
from minigpt.arguments import shown
from minigpt.classroom.checks import guards
from minigpt.classroom.checks.cases import laid_out, one_of
from minigpt.classroom.checks.framework import (
    Mistake,
    Student,
    article,
    check,
    one_number,
    same,
    shake,
)

TEXTS = ("cat", "", "naïve café", "Größe", "你好", "🙂 and 🐍", "two  spaces\n", "\x00",
         " spaces at both ends ", "\t", "\n", "\ufeffa mark at the start",
         "line\r\nends\rof three\nkinds", "cafe\u0301 in two characters", "ﬁ and ①", "İSTANBUL ẞ",
         "👩\u200d👧", "\ue000\U0010fffd", "Ωmega \u2126", "a" * 300)


@check("byte encoding: every text has ids, and the ids give it back")
def check_byte_encode(student: Student) -> None:
    """Checks `fn(text: str) -> list[int]`: the ids of a text are its UTF-8 bytes."""
    long = "".join(random.choices("aAé🙂 \r\nß\ufeff\u200b", k=5000))
    for text in [*TEXTS, long[:12], long[12:24], long[24:36], long]:
        answer = student("Which texts have characters that the vocabulary lacks? Bytes have no "
                         "such gap.", text=text)
        if not isinstance(answer, list) or not all(map(whole_number, answer)):
            parts = answer if isinstance(answer, list) else []
            held = next((article(part) for part in parts if not isinstance(part, int)), None)
            raise Mistake("Your result should be a list of whole numbers; what comes is "
                          f"{article(answer)}{f' that holds {held}' if held else ''}.")
        look_at_bytes(list(answer), text)


def whole_number(value) -> bool:
    """Whether it is one, Python's or NumPy's. True and False are none."""
    return isinstance(value, (int, numpy.integer)) and type(value) is not bool


def look_at_bytes(answer: list[int], text: str) -> None:
    """Raises the mistake in the ids of one text, if there is one."""
    right = list(text.encode())
    if answer == right:
        return
    for reason, wrong in {
        "spaces or line ends at its ends are lost: strip nothing.": text.strip(),
        "the line ends have changed. They are bytes like any other.":
            text.replace("\r\n", "\n").replace("\r", "\n"),
        "the byte-order mark is lost. It is a character like any other.":
            text.removeprefix("\ufeff"),
        "a byte-order mark was put in front. \"utf-8\" adds none, \"utf-8-sig\" does.":
            "\ufeff" + text,
        "capitals have become small.": text.lower(),
        "its spaces were run together.": " ".join(text.split()),
        "an end mark, byte 0, was added.": text + "\0",
        **{f"its characters were normalised ({form}). They look alike, and are other bytes: encode "
           "what is there.":
           unicodedata.normalize(form, text) for form in ("NFC", "NFD", "NFKC", "NFKD")},
    }.items():
        if answer == list(wrong.encode()):
            raise Mistake(f"For {shown(text)}: {reason}")
    if answer == [ord(character) for character in text]:
        raise Mistake(f"For {text!r} you return the characters' numbers, {max(answer)} for one. "
                      "Two bytes spell some of these, and bytes end at 255: `text.encode('utf-8')` "
                      "has them.")
    if len(answer) < len(right):
        raise Mistake(f"For {shown(text)} you return {len(answer)} ids, and its UTF-8 bytes are "
                      f"{len(right)}: something is lost, and no decoder can bring it back.")
    raise Mistake(f"For {shown(text)} you return {answer[:8]}, and its UTF-8 bytes are "
                  f"{right[:8]}.")


class Descent:
    """Gradient descent with momentum, as an optimiser.

    torch's own take seconds to import, more than a check may.
    """

    def __init__(self, parameters, rate: float, momentum: float):
        self.param_groups = [{"params": list(parameters), "lr": rate, "momentum": momentum}]
        self.steps = 0

    def zero_grad(self, set_to_none: bool = True) -> None:
        """As torch's: None, or zeros, in place of each gradient."""
        for p in self.param_groups[0]["params"]:
            if set_to_none:
                p.grad = None
            elif p.grad is not None:
                p.grad.zero_()

    def step(self, closure=None):
        """As torch's: with a closure, which computes the loss anew, returns that loss."""
        loss = None if closure is None else closure()
        group = self.param_groups[0]
        self.steps += 1
        with torch.no_grad():
            for p in group["params"]:
                if p.grad is not None:
                    moved = group.setdefault("moved", {})
                    moved[p] = group["momentum"] * moved.get(p, 0) + p.grad
                    p -= group["lr"] * moved[p]
        return loss


def a_model() -> GPTModel:
    """A small model, of another size each time."""
    return GPTModel(GPTConfig(vocab_size=one_of(5, 11, 11, 260), context_length=one_of(1, 6, 9),
                              d_model=8, n_heads=one_of(1, 2),
                              n_layers=one_of(1, 2), d_ff=one_of(8, 16)))


@check("training step: gradients start from zero, the loss goes down, the step is the optimiser's "
       "own", repeatable=False)
def check_training_step(student: Student) -> None:
    """Checks `fn(model, optimizer, x, y) -> loss`: one step on x, y (B, T).

    It is called three times in a row.
    """
    for trial in range(5):
        mine = a_model().train(trial != 4)
        right = copy.deepcopy(mine)
        rate, momentum = random.uniform(0.2, 0.6), one_of(0.0, 0.9)
        optimizers = [Descent(model.parameters(), rate, momentum) for model in (mine, right)]
        longest = mine.config.context_length
        shape = (2, longest) if trial % 2 == 0 else (one_of(1, 5), random.randint(1, longest))
        start = [p.detach().clone() for p in mine.parameters()]
        before = guards.Snapshot(mine)
        for step in range(1, 4):
            x, y = (laid_out(torch.randint(mine.config.vocab_size, shape)) for _ in range(2))
            loss = student(model=mine, optimizer=optimizers[0], x=x, y=y, changes=("model",))
            if isinstance(loss, torch.Tensor) and loss.requires_grad:
                raise Mistake("The loss that you return still holds the whole graph of its "
                              "computation, so memory grows with every step that you remember. "
                              "Return `loss.item()`.")
            look_at_modes(before, mine)
            expected = F.cross_entropy(right(x).flatten(0, 1), y.flatten())
            optimizers[1].zero_grad()
            expected.backward()
            gradients = [p.grad.clone() for p in right.parameters()]
            optimizers[1].step()
            weights = [p.detach() for p in mine.parameters()]
            if not all(map(same, weights, [p.detach() for p in right.parameters()])):
                name_the_step(step, start, weights, mine, optimizers[0], gradients)
            look_at_loss(loss, expected.item(), right, x, y)


def look_at_modes(before: guards.Snapshot, model: GPTModel) -> None:
    """A step changes weights, and neither the mode of a model nor what of it may learn."""
    if [part.training for part in model.modules()] != before.training:
        raise Mistake("Your step leaves the model in another mode than it found it in. Whoever "
                      "trains has set the mode: leave it.")
    if [p.requires_grad for p in model.parameters()] != before.learning:
        raise Mistake("Your step changes which weights may learn (requires_grad). Leave that as it "
                      "is.")


def look_at_loss(loss, expected: float, right: GPTModel, x, y) -> None:
    """Raises the mistake in the loss that was returned, if there is one. The step is right."""
    found = one_number(loss)
    if found is not None and abs(found - expected) < 1e-3:
        return
    with torch.no_grad():
        after = float(F.cross_entropy(right(x).flatten(0, 1), y.flatten()))
    if found is not None and abs(found - after) < 1e-3:
        raise Mistake(f"The step is right, and the loss that you return, {found:.3f}, is that of "
                      "the batch after it. Return the one that you had before the step, "
                      f"{expected:.3f}.")
    raise Mistake(f"The step is right, and the loss that you return is not: {shown(loss)} where "
                  f"{expected:.3f} is right. Return the loss of this batch, before the step.")


def name_the_step(step, start, weights, mine, optimizer, gradients) -> None:
    """Raises the mistake in a step that has led elsewhere."""
    if optimizer.steps != step:
        if all(map(same, weights, start)):
            raise Mistake("After your step no weight has changed: `optimizer.step()` was not "
                          "called.")
        how = ("more than once in a step" if optimizer.steps > step
               else "not called: the weights move by another way")
        raise Mistake(f"`optimizer.step()` is {how}. It belongs to a step once, and knows the rate "
                      "and what else there is.")
    if all(map(same, weights, start)):
        raise Mistake("After your step no weight has changed. Three calls belong to a step: "
                      "backward, step, and zero_grad. Is one missing, or is the gradient emptied "
                      "before it is used?")
    found = [p.grad for p in mine.parameters()]
    if all(g is not None for g in found) and not all(map(same, found, gradients)):
        ratio = float(sum(g.norm() for g in found) / sum(g.norm() for g in gradients))
        if step > 1:
            raise Mistake(f"Step {step} goes wrong: the gradient is {ratio:.1f} times as long as "
                          "this batch's own. It still holds the steps before. `backward()` adds to "
                          "what is there: empty it with `optimizer.zero_grad()`.")
        raise Mistake(f"After step 1 the gradient is {ratio:.2f} times as long as that of the mean "
                      "cross-entropy of this batch. Is the loss a mean over all tokens, of these "
                      "logits and these targets, and `backward()` called once?")
    raise Mistake(f"After step {step} the weights are not those of one step on the mean "
                  "cross-entropy of this batch. Is the loss a mean over all tokens, is "
                  "`backward()` called once, and `optimizer.step()` once, after it?")


@check("loading: every weight is the saved one, whatever was built on the way")
def check_load(student: Student) -> None:
    """Checks `fn(path) -> GPT`: what `gpt.save(path)` wrote.

    Weights, size and tokenizer, in eval mode.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "saved.safetensors")
        for n_layers, method in ((1, "bytes"), (2, "bpe"), (3, "substring"), (1, "bpe")):
            saved = a_gpt(n_layers, method)
            saved.save(path, half=n_layers == 3)
            content = Path(path).read_bytes()
            answer = student(path=path)
            if isinstance(answer, GPTModel):
                raise Mistake("Your result is the model alone. Return the GPT, the tokenizer and "
                              "the model together.")
            if not isinstance(answer, GPT):
                raise Mistake(f"Your result should be a GPT; what comes is {article(answer)}.")
            look_at_loaded(answer, saved, half=n_layers == 3)
            if not Path(path).exists() or Path(path).read_bytes() != content:
                raise Mistake("After loading, the file is no longer what it was. Reading a file "
                              "leaves it alone.")


def a_gpt(n_layers: int, method: str) -> GPT:
    """A GPT of random sizes, with random weights and a vocabulary of its own."""
    words = ["".join(random.choices("abcdé", k=random.randint(2, 5))) for _ in range(6)]
    tokenizer = Tokenizer.train(" ".join(random.choices(words, k=80)),
                                256 if method == "bytes" else 262, method)
    config = GPTConfig(vocab_size=tokenizer.vocab_size, context_length=one_of(5, 8),
                       d_model=one_of(8, 12), n_heads=one_of(1, 2),
                       n_layers=n_layers, d_ff=one_of(0, 16), dropout=0.1, tied=one_of(False, True),
                       positions=one_of("learned", "rotary"))
    model = GPTModel(config)
    shake(model)
    return GPT(tokenizer, model)


def look_at_loaded(answer: GPT, saved: GPT, half: bool) -> None:
    """Raises the mistake in what was loaded, if there is one."""
    model = answer.model
    if model.config != saved.model.config:
        raise Mistake(f"The saved model has {saved.model.config}, yours {model.config}: the size "
                      "must come from the file, not from the code that reads it.")
    if answer.tokenizer.vocab != saved.tokenizer.vocab:
        raise Mistake("The weights may be right, and the vocabulary is not the saved one: id 256 "
                      f"would be read as {shown(answer.tokenizer.vocab[-1])} and was "
                      f"{shown(saved.tokenizer.vocab[-1])}. The tokenizer is in the file too.")
    text = "abc édca bad " * 3
    if answer.tokenizer.encode(text) != saved.tokenizer.encode(text):
        raise Mistake("The vocabulary is the saved one, and the tokenizer cuts a text otherwise. "
                      "Take it from the file as it is.")
    look_at_weights(model.state_dict(), {name: value.half().float() if half else value
                                         for name, value in saved.model.state_dict().items()})
    if any(part.training for part in model.modules()):
        raise Mistake("All weights are the saved ones, and the model is in training mode, with its "
                      "dropout on: what it writes would be worse than what was saved. Call "
                      "gpt.model.eval() at the end.")
    if not all(p.requires_grad for p in model.parameters()):
        raise Mistake("All weights are the saved ones, and they can no longer learn (requires_grad "
                      "is off). Who loads a model may want to train it on.")


def look_at_weights(found: dict, saved: dict) -> None:
    """Raises the mistake in loaded weights, if there is one."""
    wrong = [name for name in saved if found[name].dtype != saved[name].dtype
             or not torch.equal(found[name], saved[name])]
    if not wrong:
        return
    if len(wrong) == len(saved):
        raise Mistake("No weight is the saved one: they are new random numbers. Was the model "
                      "built again *after* its weights were loaded? Build first, then load.")
    raise Mistake(f"{len(wrong)} of {len(saved)} tensors are not the saved ones, {wrong[0]} for "
                  "one. Load all of them.")

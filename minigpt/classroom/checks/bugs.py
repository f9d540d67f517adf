"""The checks that 05_bug_hunt needs besides those of the other notebooks: bytes for any text, a training step, loading."""

import copy
import random
import tempfile
from pathlib import Path

import torch
from torch.nn import functional as F

from minigpt import GPT, GPTConfig, GPTModel, Tokenizer
from minigpt.classroom.checks.framework import Mistake, Student, article, check, same

TEXTS = ("cat", "", "naïve café", "Größe", "你好", "🙂 and 🐍", "two  spaces\n", "\x00")


@check("byte encoding: every text has ids, and the ids give it back")
def check_byte_encode(student: Student) -> None:
    """Checks `fn(text: str) -> list[int]`: the ids of a text are its UTF-8 bytes."""
    for text in [*TEXTS, "".join(random.choices("aé🙂 ", k=12))]:
        answer = student("Which texts have characters that the vocabulary lacks? Bytes have no such gap.", text=text)
        if not isinstance(answer, (list, tuple)) or not all(type(i) is int for i in answer):
            raise Mistake(f"Your result should be a list of whole numbers; what comes is {article(answer)}.")
        right = list(text.encode())
        if list(answer) == right:
            continue
        if list(answer) == [ord(character) for character in text]:
            raise Mistake(f"For {text!r} you return the characters' numbers, {max(answer)} for one. Two bytes spell some "
                          "of these, and bytes end at 255: `text.encode('utf-8')` has them.")
        if len(answer) < len(right):
            raise Mistake(f"For {text!r} you return {len(answer)} ids, and its UTF-8 bytes are {len(right)}: something is lost, "
                          "and no decoder can bring it back.")
        raise Mistake(f"For {text!r} you return {list(answer)[:8]}, and its UTF-8 bytes are {right[:8]}.")


class Descent:
    """Plain gradient descent, as an optimiser: torch's own take seconds to import, more than a check may."""

    def __init__(self, parameters):
        self.parameters = list(parameters)

    def zero_grad(self) -> None:
        for p in self.parameters:
            p.grad = None

    def step(self) -> None:
        with torch.no_grad():
            for p in self.parameters:
                if p.grad is not None:
                    p -= 0.5 * p.grad


def _model() -> GPTModel:
    return GPTModel(GPTConfig(vocab_size=11, context_length=6, d_model=8, n_heads=2, d_ff=16))


@check("training step: gradients start from zero, the loss goes down, the step is the optimiser's own")
def check_training_step(student: Student) -> None:
    """Checks `fn(model, optimizer, x, y) -> loss`: one step on x, y (B, T). It is called three times in a row."""
    for _ in range(3):
        mine = _model()
        right = copy.deepcopy(mine)
        optimizers = [Descent(model.parameters()) for model in (mine, right)]
        start = [p.detach().clone() for p in mine.parameters()]
        for step in range(1, 4):
            x, y = torch.randint(11, (2, 4, 6))
            loss = student(model=mine, optimizer=optimizers[0], x=x, y=y)
            if isinstance(loss, torch.Tensor) and loss.requires_grad:
                raise Mistake("The loss that you return still holds the whole graph of its computation, so memory grows "
                              "with every step that you remember. Return `loss.item()`.")
            expected = F.cross_entropy(right(x).flatten(0, 1), y.flatten())
            optimizers[1].zero_grad()
            expected.backward()
            expected = expected.item()
            gradients = [p.grad.clone() for p in right.parameters()]
            optimizers[1].step()
            weights = [p.detach() for p in mine.parameters()]
            if not all(map(same, weights, [p.detach() for p in right.parameters()])):
                _name_the_step(step, start, weights, mine, right, gradients)
            if not isinstance(loss, (float, torch.Tensor)) or abs(float(loss) - expected) > 1e-3:
                raise Mistake(f"The step is right, and the loss that you return is not: {loss!r} where {expected:.3f} is right. "
                              "Return the loss of this batch, before the step.")


def _name_the_step(step, start, weights, mine, right, gradients) -> None:
    if all(map(same, weights, start)):
        raise Mistake("After your step no weight has changed. Three calls belong to a step: backward, step, and zero_grad. "
                      "Is one missing, or is the gradient emptied before it is used?")
    found = [p.grad for p in mine.parameters()]
    if step > 1 and all(g is not None for g in found) and not all(map(same, found, gradients)):
        ratio = float(sum(g.norm() for g in found) / sum(g.norm() for g in gradients))
        raise Mistake(f"Step {step} goes wrong: the gradient is {ratio:.1f} times as long as this batch's own. It still holds "
                      "the steps before. `backward()` adds to what is there: empty it with `optimizer.zero_grad()`.")
    raise Mistake(f"After step {step} the weights are not those of one step on the mean cross-entropy of this batch. Is the loss "
                  "a mean over all tokens, is `backward()` called once, and `optimizer.step()` once?")


@check("loading: every weight is the saved one, whatever was built on the way")
def check_load(student: Student) -> None:
    """Checks `fn(path) -> GPT`: what `gpt.save(path)` wrote, weights and all. `GPT._from_file`'s parts may be used."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "saved.safetensors"
        for size in (8, 12):
            tokenizer = Tokenizer.train("a cat sat ", 256, "bytes")
            saved = GPT(tokenizer, GPTModel(GPTConfig(vocab_size=256, context_length=8, d_model=size, n_heads=2, d_ff=16)))
            saved.save(path)
            answer = student("", path=path)
            model = getattr(answer, "model", answer)
            if not isinstance(model, GPTModel):
                raise Mistake(f"Your result should be a GPT; what comes is {article(answer)}.")
            if model.config != saved.model.config:
                raise Mistake(f"The saved model has {saved.model.config}, yours {model.config}: the size must come from the "
                              "file, not from the code that reads it.")
            _compare(model.state_dict(), saved.model.state_dict())


def _compare(found: dict, saved: dict) -> None:
    wrong = [name for name in saved if not torch.equal(found[name], saved[name])]
    if not wrong:
        return
    if all(name.endswith(("bias", "norm.weight", "norm1.weight", "norm2.weight")) or name in wrong for name in saved):
        raise Mistake("No weight is the saved one: they are new random numbers. Was the model built again *after* its weights "
                      "were loaded? Build first, then load.")
    if len(wrong) <= len(saved) / 2:
        raise Mistake(f"{len(wrong)} of {len(saved)} tensors are not the saved ones, {wrong[0]} for one. Load all of them.")
    raise Mistake(f"{len(wrong)} of {len(saved)} tensors are not the saved ones, {wrong[0]} for one.")

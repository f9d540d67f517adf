"""Checks for the second half of 04: the next token's distribution, and greedy generation."""

import random

import torch
from torch import Tensor, nn

from minigpt import GPTConfig
from minigpt.classroom.checks.cases import laid_out, one_of
from minigpt.classroom.checks.framework import (
    Mistake,
    Student,
    accuse,
    check,
    difference,
    is_nan,
    look_at_rounding,
    same,
    tensor,
)

# --------------------------------------------------------------------------- check_next_token_probs

@check("next-token probabilities: temperature, top-k, top-p and greedy, rows summing to 1, on 48 "
       "random inputs")
def check_next_token_probs(student: Student) -> None:
    """Checks `fn(logits: (B, V), temperature, top_k, top_p) -> (B, V)`, rows summing to 1.

    Temperature 0 is greedy; then the top_k largest, scaled up to 1; then the smallest set whose
    mass reaches top_p; None switches either off.
    """
    warm = random.uniform(1.5, 2.5)
    settings = ((1.0, None, None), (0.5, None, None), (warm, None, None), (0, None, None),
                (1.0, 3, None), (1.0, 1, None), (0.7, 5, None), (1.0, None, 0.6),
                (1.0, None, 0.01), (warm, None, 0.9), (1.0, None, 1.0), (0.8, 4, 0.8),
                (0.0, 2, 0.5), (1.0, 7, 0.3), (0.05, None, None), (5.0, 4, 0.9))
    for temperature, top_k, top_p in settings:
        for B, V in ((4, random.randint(7, 11)), (1, 7)):
            ask_for_probs(student, clear_logits(B, V, temperature, top_k, top_p), temperature,
                          top_k, top_p)
    for V in (2, 9):
        ask_for_probs(student, close_logits(3, V), 0, None, None)
        single_token = torch.randn(2, 1)
        ask_for_probs(student, single_token, one_of(0, 1.0), None, one_of(None, 0.5))
        for level in (2000, -2000):                             # whole: halves are exact
            steep = torch.stack([torch.randperm(V) for _ in range(3)]).float() + level
            ask_for_probs(student, steep, one_of(0.5, 1.0, 2.0), one_of(None, V), None)
            ask_for_probs(student, steep, 1.0, 1, None)
    many = torch.randperm(300)[None] / 64                       # ids that need more than 8 bits
    for temperature, top_k in ((0, None), (1.0, None), (2.0, 280)):
        ask_for_probs(student, many, temperature, top_k, None)
    ties = torch.tensor([[1.0, 3.0, 3.0, 0.0], [2.0, 2.0, 2.0, 2.0]])
    ask_for_probs(student, ties, 0, None, None)


def ask_for_probs(student: Student, logits: Tensor, temperature, top_k, top_p) -> None:
    """One try."""
    logits = laid_out(logits)
    hint = "Where top_k or top_p is None, skip that step." if None in (top_k, top_p) else ""
    answer = student(hint, logits=logits, temperature=temperature, top_k=top_k, top_p=top_p)
    look_at_probs(answer, logits, temperature, top_k, top_p)


def close_logits(B: int, V: int) -> Tensor:
    """Logits all but equal: a small temperature in place of 0 would not tell the largest."""
    return 1 + torch.stack([torch.randperm(V) for _ in range(B)]) * 1e-4


def clear_logits(B: int, V: int, temperature: float, top_k, top_p) -> Tensor:
    """Random logits with one right answer: no ties, and no mass that rounding takes past top_p.

    With both filters the first rows are such that it matters which comes first, and whether what
    top_k leaves is scaled up.
    """
    logits = torch.randn(512, V) * 1.5
    ordered = logits.sort(descending=True).values
    kept = V if top_k is None else top_k
    clear = (ordered[:, :kept] - ordered[:, 1:kept + 1] if kept < V
             else ordered[:, :-1] - ordered[:, 1:]).amin(-1) > 0.01
    if top_p is not None and top_p < 1 and temperature > 0:
        mass = (ordered / temperature).softmax(-1)[:, :top_k].cumsum(-1)  # (512, top_k or V)
        shares = mass / mass[:, -1:]
        clear &= ((mass - top_p).abs().amin(-1) > 1e-3) & ((shares - top_p).abs().amin(-1) > 1e-3)
        differs = ((mass < top_p) != (shares < top_p)).any(-1)
        return torch.cat([logits[clear & differs], logits[clear]])[:B]
    return logits[clear][:B]


def cut(probs: Tensor, top_k: int | None, top_p: float | None) -> Tensor:
    """The truth after temperature and softmax, the plain way: a row and a token at a time."""
    result = torch.zeros_like(probs)
    for row, values in enumerate(probs.tolist()):
        likely = sorted(range(len(values)), key=lambda i: -values[i])[:top_k]
        mass, total, kept = 0.0, sum(values[i] for i in likely), []
        for i in likely:
            if top_p is not None and kept and mass >= top_p * total:
                break
            kept.append(i)
            mass += values[i]
        result[row, kept] = probs[row, kept] / probs[row, kept].sum()
    return result


def look_at_probs(answer, logits: Tensor, temperature: float, top_k, top_p) -> None:
    """Raises the mistake in the probabilities for one setting, if there is one."""
    V = logits.shape[1]
    setting = f"temperature = {temperature:.3g}, top_k = {top_k}, top_p = {top_p}"
    if isinstance(answer, Tensor) and not answer.is_floating_point():
        raise Mistake(f"With {setting}, you return ids, or whole numbers ({answer.dtype}). Return "
                      "probabilities (B, V): greedy is a 1 on the largest logit and 0 elsewhere.")
    answer = tensor(answer, f"With {setting}, your result", tuple(logits.shape), "(B, V)")
    greedy = nn.functional.one_hot(logits.argmax(-1), V).float()
    largest = logits == logits.amax(-1, keepdim=True)
    if temperature == 0:
        right = greedy
        if bool((largest.sum(-1) > 1).any()):
            look_at_ties(answer, largest, setting)
            return
    else:
        right = cut((logits / temperature).softmax(-1), top_k, top_p)
    if same(answer, right):
        leak = float(answer[right == 0].abs().max()) if bool((right == 0).any()) else 0.0
        if leak > 1e-20 and (temperature == 0 or top_k is not None or top_p is not None):
            cure = "" if temperature else " 0 is no small temperature: make it a case of its own."
            raise Mistake(f"With {setting}, a token that should be out of the question keeps a "
                          f"probability of {leak:.1g}. Exactly 0 is right: once in a long text it "
                          f"would be drawn.{cure}")
        return
    if is_nan(answer):
        raise nan_mistake(answer, logits, setting, temperature, top_k, top_p)
    if temperature == 0:
        accuse(answer, {
            "With temperature = 0 you return the ordinary probabilities. 0 means greedy: 1 on the "
            "largest logit.": logits.softmax(-1),
            "With temperature = 0 all tokens are equally likely. 0 is the other end: 1 on the "
            "largest logit.": torch.full_like(answer, 1 / V),
            "With temperature = 0 all is on the least likely token: argmax, not argmin.":
                nn.functional.one_hot(logits.argmin(-1), V).float(),
        })
        if bool((answer[largest] >= 1 / V).all()):
            raise Mistake("With temperature = 0 the largest logit of a row gets "
                          f"{float(answer[largest].min()):.2f} where 1 is right. 0 is no small "
                          "temperature: all is on the largest, however close the others come. Make "
                          "it a case of its own.")
        raise difference(answer, right, "With temperature = 0 all should be on the largest logit, "
                                        "and a probability")
    probs, plain = (logits / temperature).softmax(-1), logits.softmax(-1)
    accuse(answer, {
        f"With {setting}, you return logits: apply softmax.": logits / temperature,
        f"With {setting}, your probabilities are sorted. Each belongs to the place of its token's "
        "id: scatter them back.": right.sort(descending=True).values,
        f"With {setting}, you return logits, filtered but without softmax.":
            torch.where(right > 0, logits / temperature, float("-inf")),
        f"With {setting}, your columns sum to 1, not your rows: softmax over the last axis, the "
        "vocabulary.": (logits / temperature).softmax(0),
        f"With {setting}, your probabilities are logarithms: use softmax.": probs.log(),
    })
    if temperature != 1:
        accuse(answer, {
            f"With {setting}, you multiply by the temperature. Divide the logits by it: a small "
            "one makes bolder choices.": cut((logits * temperature).softmax(-1), top_k, top_p),
            f"With {setting}, the temperature has no effect: divide the logits by it before the "
            "softmax.": cut(plain, top_k, top_p),
            f"With {setting}, you divide the probabilities by the temperature. Divide the logits, "
            "before the softmax.": plain / temperature,
            f"With {setting}, the temperature has no effect: dividing probabilities by it and "
            "scaling to 1 again changes nothing. Divide the logits.":
                plain / temperature / (plain / temperature).sum(-1, keepdim=True),
        })
    accuse_order(answer, probs, setting, top_k, top_p)
    accuse_top_k(answer, logits, probs, setting, top_k, top_p)
    accuse_top_p(answer, logits, probs, plain, setting, top_k, top_p)
    rows = answer.sum(-1)
    if not same(rows, torch.ones_like(rows)):
        look_at_rounding(answer, right, "Each of your probabilities")
        row = int((rows - 1).abs().argmax())
        raise Mistake(f"With {setting}, row {row} sums to {float(rows[row]):.2f}: probabilities "
                      "sum to 1."
                      + (" What is left after filtering must be scaled up again." if top_k or top_p
                         else ""))
    raise Mistake(f"With {setting}, row 0 keeps {int((answer[0] > 0).sum())} tokens where "
                  f"{int((right[0] > 0).sum())} are right, and "
                  f"{difference(answer, right, 'a probability')}")


def look_at_ties(answer: Tensor, largest: Tensor, setting: str) -> None:
    """Of equal largest logits any may get all, or they share it, as long as it is 1 together."""
    rows = answer.sum(-1)
    if not same(rows, torch.ones_like(rows)):
        row = int((rows - 1).abs().argmax())
        raise Mistake(f"With {setting}, row {row} sums to {float(rows[row]):.2f}: "
                      f"{int(largest[row].sum())} logits are equally large there, and each gets a "
                      "1. argmax finds one of them.")
    if bool((answer * ~largest).abs().amax() > 1e-4):
        raise Mistake(f"With {setting}, a token whose logit is not the largest of its row gets a "
                      "share.")


def nan_mistake(answer: Tensor, logits: Tensor, setting: str, temperature: float, top_k,
                top_p) -> Mistake:
    """Where NaN comes from."""
    yours = f"With {setting}, your probabilities are NaN"
    if temperature == 0:
        return Mistake(f"{yours}: you divide by 0. Temperature 0 is a case of its own: all on the "
                       "largest logit.")
    if top_p is not None:
        empty = (logits / temperature).softmax(-1)[answer.isnan().any(-1)]
        if bool((empty.amax(-1) < top_p).any()):
            return Mistake(f"{yours} in some row: nothing is left of it. No token there is more "
                           "likely than top_p, and none need be: it is the sum of the likeliest "
                           "that has to reach it.")
        return Mistake(f"{yours} in some row: nothing is left of it. Where the first token alone "
                       "reaches top_p you drop the token that crosses top_p; it has to stay.")
    if float(logits.abs().max()) > 100:
        return Mistake(f"{yours}: exp of a logit of {float(logits.abs().max()):.0f} is infinite. "
                       "`softmax` subtracts the largest of the row first.")
    if top_k is not None and not is_nan(answer[0]):
        return Mistake(f"{yours}, but not in row 0: every row uses the threshold of row 0, and "
                       "nothing is left of some. Each row has its own k-th largest.")
    return Mistake(f"{yours}. Was everything filtered out?")


def filtered(probs: Tensor, keep: Tensor) -> Tensor:
    """What is kept, scaled to sum to 1."""
    kept = probs * keep
    return kept / kept.sum(-1, keepdim=True)


def accuse_top_k(answer: Tensor, logits: Tensor, probs: Tensor, setting: str, top_k, top_p) -> None:
    """The usual slips with top_k."""
    if top_k is None:
        return
    V = probs.shape[-1]
    rank = probs.argsort(descending=True).argsort()             # 0 for the most likely
    accuse(answer, {
        f"With {setting}, top_k has no effect: only the {top_k} largest may keep a probability.":
            cut(probs, None, top_p),
        f"With {setting}, you keep {top_k - 1} tokens: the k-th largest itself stays too (≥, not "
        ">).": cut(probs, max(1, top_k - 1), top_p),
        f"With {setting}, you keep {top_k + 1} tokens, one too many.": cut(probs, top_k + 1, top_p),
        f"With {setting}, you keep the {top_k} least likely tokens. Keep the largest.":
            filtered(probs, rank >= V - top_k),
        f"With {setting}, you drop the {top_k} likeliest and keep the rest: it is the other way "
        "round.": filtered(probs, rank >= top_k),
        f"With {setting}, you keep the first {top_k} ids, whatever their logits. Keep the {top_k} "
        "largest logits.": filtered(probs, torch.arange(V) < top_k),
        f"With {setting}, row 0 sums to {float(answer[0].sum()):.2f}: what top_k leaves must be "
        "scaled up to 1 again.": probs * (rank < top_k),
        f"With {setting}, the tokens outside top_k get a logit of 0, and exp(0) is 1: set it to "
        "-inf.": torch.where(rank < top_k, logits, 0.0).softmax(-1),
        f"With {setting}, the tokens outside top_k get a logit of 0, and exp(0) is 1. Set it to "
        "-inf.":
            torch.where(rank < top_k, torch.log(probs) + torch.logsumexp(logits, -1, keepdim=True),
                        0.0).softmax(-1),
        f"With {setting}, you apply softmax to probabilities: set the filtered logits to -inf and "
        "apply it once.": (probs * (rank < top_k)).softmax(-1),
        f"With {setting}, every row uses the threshold of row 0. Each row has its own k-th "
        "largest.": filtered(probs, logits >= logits[:1].topk(top_k).values[:, -1:]),
        f"With {setting}, every row uses the threshold of row 0. Each row has its own k-th "
        "largest probability.": filtered(probs, probs >= probs[:1].topk(top_k).values[:, -1:]),
        f"With {setting}, your probabilities are sorted. Each must stay at its token's id: "
        "scatter them back.": filtered(probs, rank < top_k).sort(descending=True).values,
    })


def accuse_top_p(answer: Tensor, logits: Tensor, probs: Tensor, plain: Tensor, setting: str, top_k,
                 top_p) -> None:
    """The usual slips with top_p, none of which concerns the very largest probability alone."""
    if top_p is None:
        return
    probs = cut(probs, top_k, None)                             # what top_p is to see
    ordered, order = probs.sort(descending=True)
    before = ordered.cumsum(-1) - ordered                       # the mass ahead of each

    def back(kept: Tensor) -> Tensor:
        return torch.zeros_like(probs).scatter(-1, order, kept)

    inside = before < top_p
    short = ordered.cumsum(-1) <= top_p
    one_more = torch.cat([torch.ones_like(inside[:, :1]), inside[:, :-1]], -1)
    heads = torch.arange(probs.shape[-1]) == 0
    if top_p < 1:
        accuse(answer, {f"With {setting}, top_p has no effect.": cut(probs, top_k, None)})
    accuse(answer, {
        f"With {setting}, you drop the token that crosses top_p. The set has to *reach* {top_p}: "
        "that token stays.": filtered(probs, back((short | heads).float())),
        f"With {setting}, you drop the token that crosses top_p, and where the first token is "
        "enough you keep none. That token stays.":
            filtered(probs, back(short.float())).nan_to_num(0.0),
        f"With {setting}, you keep one token too many: the smallest set that reaches {top_p} ends "
        "with the one that crosses it.": filtered(probs, back(one_more.float())),
        f"With {setting}, row 0 sums to {float(answer[0].sum()):.2f}: what top_p leaves must be "
        "scaled up to 1 again.": probs * back(inside.float()),
        f"With {setting}, your probabilities are sorted. Each must stay at its token's id: "
        "scatter them back.": filtered(ordered, inside),
        f"With {setting}, you add up the probabilities in the order of the ids. Sort them first, "
        "the largest first.": filtered(probs, probs.cumsum(-1) - probs < top_p),
        f"With {setting}, you add up from the least likely token. Sort the largest first.":
            back_ascending(probs, top_p),
        f"With {setting}, top_p is measured before the temperature. The temperature comes first.":
            filtered(probs, cut(plain, top_k, top_p) > 0),
        f"With {setting}, you keep the tokens that are each more likely than top_p. It is their "
        "sum that counts.": filtered(probs, probs >= top_p),
        f"With {setting}, you keep each token above 1 − top_p. It is their sum that counts.":
            filtered(probs, probs >= 1 - top_p),
    })


def accuse_order(answer: Tensor, probs: Tensor, setting: str, top_k, top_p) -> None:
    """The usual slip where both filters are on."""
    if top_k is not None and top_p is not None:
        accuse(answer, {
            f"With {setting}, top_p is measured on all tokens. It comes second: first top_k, then "
            "let what top_k leaves sum to 1 again, and only then add up to top_p.":
                filtered(probs, (cut(probs, top_k, None) > 0) & (cut(probs, None, top_p) > 0))})


def back_ascending(probs: Tensor, top_p: float) -> Tensor:
    """What top-p keeps if the least likely tokens are added up first."""
    ordered, order = probs.sort()
    before = ordered.cumsum(-1) - ordered                       # the mass ahead of each
    keep = torch.zeros_like(probs).scatter(-1, order, (before < top_p).float())
    return filtered(probs, keep)


# ----------------------------------------------------------------------------------- check_generate

class Parrot(nn.Module):
    """A model whose favourite next token depends on the last two tokens.

    It writes down every window that it reads.
    """

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.config = config
        self.tables = nn.Parameter(torch.randn(2, config.vocab_size, config.vocab_size))
        self.windows: list[list[int]] = []

    def favourite(self, before: int, last: int) -> int:
        """What it says after these two."""
        return int(self.logits(torch.tensor([before, last]))[-1].argmax())

    def close(self) -> "Parrot":
        """The same, so nearly undecided that rounding, or a draw, often takes the second best."""
        with torch.no_grad():
            self.tables[0] = 0.0
            best = self.tables[1].argmax(-1)
            rows = (best > 0).nonzero()[:, 0]
            self.tables[1, rows, best[rows] - 1] = self.tables[1, rows, best[rows]] - 3e-4
        return self

    def logits(self, ids: Tensor) -> Tensor:
        """(T,) or (B, T) -> the same and V."""
        before = torch.cat([ids[..., :1], ids[..., :-1]], dim=-1)
        return self.tables[0, before] + self.tables[1, ids]

    def forward(self, ids: Tensor) -> Tensor:
        """(1, T) -> (1, T, V)."""
        if ids.dim() != 2:
            raise ValueError(f"ids must be (B, T), not {tuple(ids.shape)}")
        if not 0 < ids.shape[1] <= self.config.context_length:
            raise ValueError(f"ids must fit the context of {self.config.context_length} tokens, "
                             f"not {ids.shape[1]}")
        self.windows.append(ids[0].tolist())
        return self.logits(ids)


@check("generate: greedy, one token after another, past the context too, the prompt kept, on 16 "
       "prompts")
def check_generate(student: Student) -> None:
    """Checks `fn(model, ids: (1, T), max_new_tokens) -> (1, T + max_new_tokens)`, greedy.

    The model's context is `model.config.context_length`, and ids that come earlier are no longer
    shown to it.
    """
    for trial in range(16):
        context_length, V = one_of(4, 5, 6, 7), 300 if trial in (8, 9) else 9
        context_length = 40 if trial == 15 else context_length
        model = Parrot(GPTConfig(vocab_size=V, context_length=context_length, d_model=4, n_heads=1,
                                 d_ff=0)).train(trial in (10, 13))
        T = (3, context_length + 3, 2, 4, 1, context_length, context_length - 1,
             context_length + 1)[trial % 8]
        T = 2 if trial in (13, 14) else T
        count = one_of(1, 2) if trial % 2 and trial > 3 else 2 * context_length
        count = {12: 0, 13: 5, 14: 20, 15: 60}.get(trial, count)
        if trial == 14:
            model.close()
        ids = laid_out(torch.randint(V, (1, T)))
        model.windows = []
        answer = student(f"The model reads at most {context_length} tokens, and at least one: show "
                         "it ids[:, -context_length:].", model=model, ids=ids, max_new_tokens=count)
        right = ids[0].tolist()
        for _ in range(count):
            right.append(model.favourite(*[right[0], *right][-2:]))
        look_at_generated(answer, right, ids, count, model)


def look_at_generated(answer, right: list[int], ids: Tensor, count: int, model: Parrot) -> None:
    """Raises the mistake in the ids, if there is one."""
    T, context_length = ids.shape[1], model.config.context_length
    given = f"From {T} ids and max_new_tokens = {count}"
    if isinstance(answer, Tensor) and answer.dim() == 2 and answer.shape[0] == 1:
        length = answer.shape[1]
        if length == count != T + count:
            raise Mistake(f"{given} you return {length} ids: the prompt is lost. Return it too, "
                          "with the new ids behind it.")
        if length == T + 1 < T + count - 1 and len(model.windows) == 1:
            raise Mistake(f"{given} you return {length} ids, a single new one. Does `return` stand "
                          "inside the loop? It ends the function in the first turn: put it behind "
                          "the loop, as far left as `for`.")
        if length in (T + count - 1, T + count + 1):
            raise Mistake(f"{given} you return {length} ids, one too "
                          f"{'few' if length < T + count else 'many'}: {T} + {count} = "
                          f"{T + count}.")
        if length <= context_length < T + count:
            raise Mistake(f"{given} you return {length} ids: you cut what you keep to the context. "
                          "Cut only what the model reads, and keep all ids.")
    answer = tensor(answer, "Your result", (1, T + count), "(1, T + max_new_tokens)",
                    "int64")[0].tolist()
    if answer == right:
        look_at_windows(model, right, T, count)
        if len(model.windows) > 2 * count + 2:
            raise Mistake(f"{given} your model is asked {len(model.windows)} times. Once for each "
                          "new id is enough: with a longer text it would take for ever.")
        return
    if answer[:T] != right[:T]:
        raise Mistake(f"{given} your result should begin with the prompt, {right[:T]}, and begins "
                      f"with {answer[:T]}. New ids go behind: torch.cat([ids, new], dim=1).")
    if T > 1 and any(len(window) == 1 for window in model.windows):
        raise Mistake("Your model is shown only the newest token. Show it the tokens before too, "
                      "up to its context.")
    place = next(i for i in range(len(right)) if answer[i] != right[i])
    wrong = f"{given}, new id {place - T} is {answer[place]} where {right[place]} is right"
    places = range(T, T + count)                                # of the new ids
    steps = list(zip(model.windows, places, strict=False))      # (what was read, what came of it)
    if any(window != answer[:end][-len(window):] for window, end in steps):
        if all(window == answer[:len(window)] for window, _ in steps):
            raise Mistake(f"{wrong}: your model reads the first ids. It should read the last: "
                          "ids[:, -context_length:].")
        raise Mistake(f"{wrong}: your model does not read the ids that come just before.")
    logits = [model.logits(torch.tensor(window)) for window, _ in steps]  # (T, V) each
    new = answer[T:]
    if len(model.windows) > count:
        raise Mistake(f"{wrong}, and your model is asked {len(model.windows)} times for {count} "
                      "new ids. Once for each is enough.")
    for reason, choice in {
        "you take the smallest logit. Greedy takes the largest.": lambda rows: rows[-1].argmin(),
        "you use the logits of the first position. The next token's are the last position's: "
        "logits[:, -1].": lambda rows: rows[0].argmax(),
        "you use the logits of the last position but one. Take logits[:, -1].":
            lambda rows: rows[min(len(rows), 2) * -1].argmax(),
        "you take the second largest logit. Greedy takes the largest.":
            lambda rows: rows[-1].topk(2).indices[-1],
    }.items():
        if new == [int(choice(rows)) for rows in logits]:
            raise Mistake(f"{wrong}: {reason}")
    raise Mistake(f"{wrong}. Greedy takes the largest logit of the last position: did you draw at "
                  "random?")


def look_at_windows(model: Parrot, right: list[int], T: int, count: int) -> None:
    """Raises the mistake where the ids are right, and the model was not shown all that it can read.

    This model looks at two of them alone: another would miss the rest.
    """
    context_length = model.config.context_length
    for length in range(T, T + count):
        if length > context_length and length != T:
            continue
        whole = right[max(0, length - context_length):length]
        if whole not in model.windows:
            longest = max((len(window) for window in model.windows), default=0)
            if longest == 1:
                raise Mistake("Your model is shown only the newest token. Show it the tokens "
                              "before too, up to its context.")
            raise Mistake(f"The model can read {context_length} ids, and of {length} you show it "
                          f"fewer, {longest} at most. What it is not shown it has forgotten: "
                          "ids[:, -context_length:], without a 1 taken off.")

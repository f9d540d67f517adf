"""The heads of a trained model on a sentence of one's own: for each token, what it looks at.

`attention_explorer` shows the weights as the model uses them, for the first glimpse in 00_play;
`head_explorer`, for 02_attention, has two switches more. The map is a table of HTML: a browser has
a font for every script, and it follows the window.
"""

import html
from functools import cache

import matplotlib
import torch
from torch import Tensor

from minigpt import GPT, arguments, causal_mask
from minigpt.arguments import takes
from minigpt.classroom.controls import checkbox, option_slider, slider, text_box
from minigpt.classroom.doors import a_gpt
from minigpt.classroom.model_changes import when_trained
from minigpt.classroom.plots import counted, token_label
from minigpt.classroom.widgets import Explorer, Page
from minigpt.model import evaluating
from minigpt.self_attention import rotate

SHOWN_TOKENS = 16       # more would be too small to read from the back of the room
NUMBERED = 12           # tokens up to which the numbers stand in the cells
SENTENCE = "She was very happy with her sister"


@takes(gpt=a_gpt, text=arguments.text)
def attention_explorer(gpt: GPT, text: str = SENTENCE) -> Explorer:
    """The weights of a layer and a head of `gpt` on a text: row i is what token i looks at."""
    def draw(text, layer, head):
        ids, cut = last_ids(gpt, text)
        weights = attention_of(gpt, ids)[layer - 1, head - 1]
        return [cut, attention_map(gpt, ids, weights, layer, head)]

    controls = {"text": text_box("text", text), **layer_and_head(gpt, text)}
    return _following(gpt, Explorer(draw, controls, wait=0.1, beside=True))


@takes(gpt=a_gpt, text=arguments.text)
def head_explorer(gpt: GPT, text: str = SENTENCE) -> Explorer:
    """The same with two switches: the causal mask, and a temperature that divides the scores."""
    def draw(text, layer, head, mask, temperature):
        ids, cut = last_ids(gpt, text)
        # (T, d_head) each
        q, k = (tensor[layer - 1, head - 1] for tensor in queries_and_keys(gpt, ids))
        scores = q @ k.T / q.shape[-1] ** 0.5 / temperature                                 # (T, T)
        if mask:
            scores = scores.masked_fill(~causal_mask(len(q)), float("-inf"))
        return [cut, attention_map(gpt, ids, scores.softmax(-1), layer, head, masked=mask)]
    controls = {"text": text_box("text", text), **layer_and_head(gpt, text),
                "mask": checkbox("hide the future (causal mask)", True),
                "temperature": option_slider("temperature", 1, (0.1, 0.25, 0.5, 1, 2, 4, 10))}
    return _following(gpt, Explorer(draw, controls, wait=0.1, beside=True))


def _following(gpt: GPT, explorer: Explorer) -> Explorer:
    when_trained(gpt, explorer.update)
    return explorer


def last_ids(gpt: GPT, text: str) -> tuple[list[int], str]:
    """The ids that are read and shown, and a sentence where they are not all of the text's."""
    ids = gpt.tokenizer.encode(text or "\n")
    shown = ids[-min(SHOWN_TOKENS, gpt.model.config.context_length):]
    if len(shown) == len(ids):
        return ids, ""
    return shown, (f'<p class="minigpt-note">Your text has {len(ids)} tokens. Only its last '
                   f"{len(shown)} are read here, as if the text began with them.</p>")


def layer_and_head(gpt: GPT, text: str) -> dict:
    """The two sliders, at a head that is worth seeing."""
    config = gpt.model.config
    layer, head = telling_head(attention_of(gpt, last_ids(gpt, text)[0]))
    return {"layer": slider("layer", layer, 1, config.n_layers),
            "head": slider("head", head, 1, config.n_heads)}


def telling_head(weights: Tensor) -> tuple[int, int]:
    """(layer, head), from 1, of (n_layers, n_heads, T, T), that looks hardest at earlier tokens.

    Many heads look at the token itself or at the first one, which every row may: those say little
    of the sentence.
    """
    T = weights.shape[-1]
    earlier = weights.masked_fill(torch.eye(T, dtype=torch.bool), 0)            # not at itself
    earlier[..., 0] = 0                                                         # nor at the first
    decided = earlier.amax(-1).mean(-1)                                        # (n_layers, n_heads)
    layer, head = divmod(int(decided.argmax()), weights.shape[1])
    return layer + 1, head + 1


def attention_of(gpt: GPT, ids: list[int]) -> Tensor:
    """What each head of each layer looks at while it reads `ids`: (n_layers, n_heads, T, T)."""
    model = gpt.model                     # live training may put another one in its place meanwhile
    with torch.inference_mode(), evaluating(model):
        return model.attention_weights(torch.tensor([ids], device=gpt.device))[:, 0].cpu()


def queries_and_keys(gpt: GPT, ids: list[int]) -> tuple[Tensor, Tensor]:
    """What each head asks and offers, reading `ids`: two of (n_layers, n_heads, T, d_head)."""
    model, seen = gpt.model, []
    hooks = [
        block.attention.qkv.register_forward_hook(lambda layer, read, made: seen.append(made.cpu()))
        for block in model.blocks
    ]
    try:
        attention_of(gpt, ids)
    finally:
        for hook in hooks:
            hook.remove()
    H, d_head = model.config.n_heads, model.config.d_model // model.config.n_heads
    heads = torch.cat(seen).unflatten(-1, (-1, d_head))         # (n_layers, T, H + 2 G, d_head)
    heads = heads.transpose(1, 2)
    G = (heads.shape[1] - H) // 2         # heads of keys: H, or fewer where several share theirs
    q, k = heads[:, :H], heads[:, H:H + G]
    if model.rotation is not None:        # rotary positions turn queries and keys after this matrix
        q, k = (rotate(part, model.rotation[:len(ids)].cpu()) for part in (q, k))
    return q, k.repeat_interleave(H // G, dim=1)


# ---- the map

def attention_map(
    gpt: GPT, ids: list[int], weights: Tensor, layer: int, head: int, masked: bool = True
) -> Page:
    """The weights (T, T) of one head as coloured cells; where `masked`, the future is hatched."""
    labels = [token_label(gpt.tokenizer.id_to_token(i)) for i in ids]
    words = map_in_words(labels, weights, layer, head, masked)
    head_row = "".join(f'<th scope="col">{html.escape(label)}</th>' for label in labels)
    rows = "".join(
        f'<tr><th scope="row">{html.escape(label)}</th>'
        + "".join(_hidden() if masked and column > row else _cell(weight, len(ids) <= NUMBERED)
                  for column, weight in enumerate(weights[row].tolist())) + "</tr>"
        for row, label in enumerate(labels))
    return Page(
        f'<figure role="img" aria-label="{html.escape(words)}" class="minigpt-map" '
        f'style="--tokens: {len(ids)}"><figcaption>Each row is a token; its cells are what '
        'it looks at. '
        '<span>Weight 0 <span class="minigpt-key"></span> 1</span></figcaption>'
        f"<table><thead><tr><td></td>{head_row}</tr></thead><tbody>{rows}</tbody></table></figure>",
        words,
    )


def map_in_words(labels: list[str], weights: Tensor, layer: int, head: int, masked: bool) -> str:
    """What the map shows, for those who can't see it."""
    most = int(weights[-1].argmax())
    future = " The future is not hidden: the upper triangle has weights too."
    return (
        f"A {'lower triangle' if masked else 'full square'} of weights for "
        f"{counted(len(labels), 'token')} in layer {layer}, head {head}. "
        f"The last token, {labels[-1]}, looks most at {labels[most]}: "
        f"{weights[-1, most]:.2f}.{'' if masked or len(labels) == 1 else future}"
    )


def _hidden() -> str:
    return '<td class="minigpt-hidden"></td>'


def _cell(weight: float, numbered: bool) -> str:
    ink = "white" if weight < 0.43 else "black"         # whichever stands out more from viridis
    number = "" if not numbered else f"{weight:.2f}" if weight >= 0.005 else "≈ 0"
    return f'<td style="background: {_viridis(round(weight, 2))}; color: {ink}">{number}</td>'


@cache
def _viridis(weight: float) -> str:
    return matplotlib.colors.to_hex(matplotlib.colormaps["viridis"](weight))

"""Pictures of attention, on a sentence of one's own: which token looks at which, in every layer and head.

For 02_attention, and for the first glimpse in 00_play.
"""

from minigpt import GPT
from minigpt.classroom.plots import heat_map, token_label
from minigpt.classroom.widgets import Explorer, slider, text_box

SHOWN_TOKENS = 24       # more would be too small to read from the back of the room


def attention_explorer(gpt: GPT, text: str = "She was very happy with her sister") -> Explorer:
    """The attention weights of a layer and a head of `gpt` on a text: row i is what token i looks at."""
    def draw(text, layer, head):
        ids = gpt.tokenizer.encode(text or "\n")[-SHOWN_TOKENS:]
        labels = [token_label(gpt.tokenizer.id_to_token(i)) for i in ids]
        weights = gpt.attention_weights(text)[layer - 1, head - 1][-len(ids):, -len(ids):]          # (T, T)
        future = weights.new_ones(weights.shape).triu(1).bool()
        most = weights[-1].argmax()
        return heat_map(weights.masked_fill(future, float("nan")), labels, labels, low=0, high=1, row_label="this token …",
                        column_label="… looks at", value_label="attention weight",
                        alt=f"A lower triangle of weights for {len(ids)} tokens in layer {layer}, head {head}. "
                            f"The last token, {labels[-1]}, looks most at {labels[most]}: {weights[-1, most]:.2f}.")
    config = gpt.model.config
    return Explorer(draw, {"text": text_box("text", text), "layer": slider("layer", 1, 1, config.n_layers),
                           "head": slider("head", 1, 1, config.n_heads)}, wait=0.1)

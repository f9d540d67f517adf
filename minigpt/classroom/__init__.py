"""What the notebooks import, and nothing else does: pictures, widgets and checks. It needs the notebook extras.

The finished code itself is in `minigpt`; this package only helps to show it.
"""
# ruff: noqa: F401, F403, I001  (every name is here to be imported from here)

from minigpt.classroom.checks import *
from minigpt.classroom.plots import Picture, bars, heat_map, lines, new_figure, token_label
from minigpt.classroom.widgets import (Explorer, Page, checkbox, chooser, export_predictions, hints, log_slider,
                                       option_slider, predict, predictions, show_source, slider, text_box)

# Each notebook's own widgets, one line a notebook, added by its author:
from minigpt.classroom.explore_attention import (attention_explorer, cost_explorer, head_explorer, mixing_desk,
                                                 query_explorer, saturation_explorer)
from minigpt.classroom.playground import next_token, probability_bars, talk
from minigpt.classroom.explore_training import descent_explorer, live_training, sampling_explorer, schedule_explorer
from minigpt.classroom.explore_tokenizer import byte_explorer, coloured, merge_explorer, size_picture, token_explorer
from minigpt.classroom.explore_model import (flops_per_token, gelu_picture, measured_rate, norm_explorer, overfit_picture,
                                             residual_norms, residual_picture, size_explorer)
from minigpt.classroom.explore_real import bits_explorer, bits_picture, chat, losses_in_bits, real_model, switched_off

"""What the notebooks import, and nothing in the core does: pictures, widgets and checks.

It needs the notebook extras. The finished code itself is in `minigpt`; this package only helps to
show it.
"""
# ruff: noqa: F401, F403, I001  (every name is here to be imported from here)

import minigpt.classroom.front_end  # first of all
from minigpt.classroom.checks import *
from minigpt.classroom.controls import (checkbox, chooser, log_slider, option_slider, slider,
                                        text_box)
from minigpt.classroom.plots import Picture, bars, heat_map, lines, new_figure, token_label
from minigpt.classroom.prediction import export_predictions, hints, predict, predictions
from minigpt.classroom.wall.member import join, leave
from minigpt.classroom.widgets import Explorer, Page, show_source

# Each notebook's own widgets:
from minigpt.classroom.playground import next_token, probability_bars, talk
from minigpt.classroom.explore_tokenizer import (byte_explorer, coloured, merge_explorer,
                                                 size_picture, token_explorer)
from minigpt.classroom.explore_attention import (cost_explorer, mixing_desk, query_explorer,
                                                 saturation_explorer)
from minigpt.classroom.explore_heads import attention_explorer, head_explorer
from minigpt.classroom.explore_model import (flops_per_token, gelu_picture, measured_rate,
                                             norm_explorer, overfit_picture, residual_norms,
                                             residual_picture, size_explorer)
from minigpt.classroom.explore_training import (descent_explorer, sampling_explorer,
                                                schedule_explorer)
from minigpt.classroom.live_panel import live_training
from minigpt.classroom.explore_real import (bits_explorer, bits_picture, chat, losses_in_bits,
                                            real_model, switched_off)

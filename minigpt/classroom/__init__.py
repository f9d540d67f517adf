"""What the notebooks import, and nothing else does: pictures, widgets and checks. It needs the notebook extras.

    from minigpt.classroom import *       # everything below; the finished code itself is in `minigpt`
"""

from minigpt.classroom.plots import Picture, bars, heat_map, lines, new_figure, token_label
from minigpt.classroom.widgets import (Explorer, Page, checkbox, chooser, export_predictions, hints, log_slider,
                                       option_slider, predict, predictions, show_source, slider, text_box)

# Each notebook's own widgets and the checks are added here by whoever writes them, one line a module.

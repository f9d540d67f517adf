"""Imported before the rest of the classroom: what a front end needs is there, and says nothing.

Where it is missing, the error names the extra to install. Where the home folder can't be written
to, as on some hubs, Matplotlib makes do with a temporary folder, and tells so in six lines of red
under a notebook's first cell: not here.
"""

import logging

logger = logging.getLogger("matplotlib")
level = logger.level
logger.setLevel(logging.ERROR)
try:
    import anywidget
    import IPython
    import ipywidgets
    import matplotlib.font_manager  # finds its folders, and lists the fonts
    import nbformat
except ModuleNotFoundError as error:
    missing = error.name.split(".")[0]
    raise ModuleNotFoundError(
        f"the notebooks' side of minigpt needs {missing}, which is not installed: "
        'pip install "minigpt[notebook]" (in a clone: python3 run.py setup)',
        name=error.name) from None
finally:
    logger.setLevel(level)

__all__ = ["IPython", "anywidget", "ipywidgets", "matplotlib", "nbformat"]

"""What the live curve costs: the share of training time that notebook 04's panel spends on pictures and samples."""

from benchmarks.measure import row
from minigpt import GPT
from minigpt.classroom import live_training


def rows() -> list[dict]:
    """One row: the share in 30 seconds of training, of the 5 % that it may."""
    panel = live_training(GPT.from_text("The panel makes a model of its own."), seconds=30)
    panel.start()
    panel.wait()
    return [row("share of training time that drawing the live curve takes, of 0.05 allowed",
                panel.drawing_seconds / panel.history.seconds, 0.05, 1.0)]

"""Who shows what a model says is told when it has been trained.

What it drew before is the old model's.
"""

import weakref
from collections.abc import Callable

from minigpt import GPT

_listeners: "weakref.WeakKeyDictionary[GPT, list[weakref.WeakMethod]]" = weakref.WeakKeyDictionary()


def when_trained(gpt: GPT, method: Callable) -> None:
    """Have a widget's `method` called after each training of `gpt`, while the widget lives."""
    _listeners.setdefault(gpt, []).append(weakref.WeakMethod(method))


def trained(gpt: GPT) -> None:
    """Tell all who show something of `gpt`."""
    for listener in _listeners.get(gpt, []):
        method = listener()
        if method is not None:
            method()

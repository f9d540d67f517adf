"""What is built on this package and asked for by name: found where it is installed, never imported.

So the arrows between the files point one way. `pyproject.toml` lists the names.
"""

from importlib.metadata import entry_points


def plugin(group: str, name: str):
    """The plug-in of that name. Raises ImportError where the installation does not know it yet."""
    for found in entry_points(group=f"minigpt.{group}", name=name):
        return found.load()
    raise ImportError(f"this installation of minigpt is older than its files, and knows no {name}: "
                      "install it again, by python3 run.py setup or pip install --editable .")

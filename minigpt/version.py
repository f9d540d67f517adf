"""The version of this package, where whoever needs it finds it without importing all the rest."""

__version__ = "0.2.0"

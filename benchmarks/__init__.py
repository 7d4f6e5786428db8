"""Measurements of everything, on generated scenes and public clips."""

import flow  # noqa: F401  before torch and numpy: it says how their threads behave

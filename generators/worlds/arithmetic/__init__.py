"""Word problems with exact answers. `families/` what is asked, `words.py` and the shapes' texts how, `splits.py` on which side."""

from generators.worlds.arithmetic.world import LEVELS, ArithmeticWorld

__all__ = ["LEVELS", "ArithmeticWorld"]

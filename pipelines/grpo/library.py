"""Imports every module that registers components. A component of one's own: write the function, decorate it, import it before the preset is read."""

from pipelines.grpo import advantage, aggregation, recompose, regularizer, replay, smooth, surrogate, transform, weights

MODULES = (recompose, replay, advantage, smooth, transform, surrogate, weights, regularizer, aggregation)

"""Strategies, the loop and its state, the optimizer, cached features, evaluation and calibration."""

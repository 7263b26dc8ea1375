"""Splits, metrics, and models judged on the same users."""

"""Turns ratings into one bundle: resolve, clean, split, train, evaluate, publish."""

"""Builds the arrays of feature groups: a module of the same name for each group that has any."""

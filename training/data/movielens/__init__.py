"""Data sets of MovieLens: their files are read, checked and cleaned."""

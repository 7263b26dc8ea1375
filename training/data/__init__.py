"""Ratings and a catalogue, from a folder of files to what can be trained on."""

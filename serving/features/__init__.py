"""What the ranker sees of a candidate: features in groups, a module each."""

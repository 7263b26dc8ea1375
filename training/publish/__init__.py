"""From a trained recommender to a bundle: gate, contents, reuse."""

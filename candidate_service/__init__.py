"""Stage one: the movies with the highest ALS scores, out of all."""

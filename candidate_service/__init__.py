"""Stage one: the movies that ALS, transitions and popularity together put first, out of all."""

"""Makes the lists: personal, similar, popular, and why a movie is in one."""

"""The kit that the servers and the training job share. Knows nothing of any one process."""

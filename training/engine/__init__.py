"""Where the big steps of a job run: on this machine, or on a Spark cluster."""

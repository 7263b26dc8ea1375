"""What becomes of a trained bundle: its run, its version in the registry, and the way to servers."""

"""Movies like one movie."""

"""Asks a stage: one client, one queue that batches, one breaker, and how long it may take."""

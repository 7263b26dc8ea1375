"""Models measured: against baselines, under each protocol, with other parameters."""

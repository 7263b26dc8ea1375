"""What an answer costs, beside the least that it could cost and beside two monoliths."""

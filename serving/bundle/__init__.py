"""What training hands over: one immutable, versioned directory that all servers load."""

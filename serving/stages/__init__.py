"""What the gateway and a stage say to each other: one set of types and one codec per stage."""

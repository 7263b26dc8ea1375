"""The page that says what was trained and how good it is."""

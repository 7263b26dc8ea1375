"""What the commands run: each job from its data to what people see of it."""

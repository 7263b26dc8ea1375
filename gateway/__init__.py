"""The public API: asks the stages, steps down when one fails, joins titles."""

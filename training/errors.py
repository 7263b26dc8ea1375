"""The root of what a person can mend: a command says it in words, without a traceback."""


class TrainingError(Exception):
    """Base of those failures of training whose message is for people."""

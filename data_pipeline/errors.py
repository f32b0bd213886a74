"""The error that every loader raises: one sentence with the value and the remedy."""


class DataError(ValueError):
    """A data set is missing, unreadable, misshapen or not finite."""

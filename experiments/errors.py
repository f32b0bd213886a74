"""The error a user can act on: the command line prints it as one sentence and exits with status 2."""


class UserError(Exception):
    """A bad option, a bad workdir or a run that cannot go on; the message names the value and the remedy."""

"""The error a user can act on: the command line prints it as one sentence and exits with status 2."""


class UserError(Exception):
    """A bad option, a bad workdir or a run that cannot go on; the message names the value and the remedy."""


class NotFiniteError(UserError):
    """The training of one seed is over, because its loss or its state is not finite; other seeds go on."""

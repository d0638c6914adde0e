"""The one way to tell a user that what they gave cannot be used."""


class InputError(ValueError):
    """The input or the request is wrong; the message says what was wrong and what is accepted.

    The command line prints the message on one line and exits with code 2. Anything else that escapes is our bug.
    """


class InputWarning(UserWarning):
    """The input is damaged or unusual but was used; the message says what was done about it."""

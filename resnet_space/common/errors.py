"""The one error for what a person can cause."""


class UserError(ValueError):
    """What was wrong and what is allowed, in one sentence: a visitor is told it as it is.

    Subclasses exist only where a caller does something else about them than to tell.

    Attributes:
        passing: whether it is the machine that lacks something for the moment, and nothing is known of the rest.
    """

    passing = False

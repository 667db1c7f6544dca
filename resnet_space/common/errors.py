"""The one exception for errors that a user can cause."""


class UserError(ValueError):
    """One sentence that says what was wrong and what is allowed; it is shown to the visitor as it is.

    Subclasses exist only where a caller handles them in a special way.

    Attributes:
        passing: whether the machine temporarily lacks a resource, so that the error says nothing about the input.
    """

    passing = False

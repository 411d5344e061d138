"""The one exception whose message is meant for the person at the page."""


class BadInput(ValueError):
    """Input that cannot be used. The message is one sentence that says what is wrong and what to do.

    The page and the command line show the message as it stands; any other exception is a defect of ours.
    """

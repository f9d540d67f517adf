"""Where the banks are kept: for each check the answers that must pass, and those that must be refused, and how."""

RIGHT: dict = {}        # check -> functions that must pass
WRONG: dict = {}        # check -> (function, phrase that the refusal must hold)


def right(check):
    """Registers an answer that the check must accept."""
    def decorate(answer):
        RIGHT.setdefault(check, []).append(answer)
        return answer
    return decorate


def wrong(check, phrase: str):
    """Registers an answer that the check must refuse with a message that holds `phrase`."""
    def decorate(answer):
        WRONG.setdefault(check, []).append((answer, phrase))
        return answer
    return decorate

"""Why there is no answer that can be used: each kind of it, for people to read."""


class ApiFault(Exception):
    """Why there is no answer that can be used.

    `reason` is one sentence, `hint` says what to do about it, `url` is the address that was
    asked, `detail` is what the API itself said, if anything. All are plain text and may quote
    what came from outside. `badge` and `title` are ours and name the kind of fault.
    """

    badge = "API error"
    title = "The API answers, but not with what this page can use"

    def __init__(self, url: str, reason: str, hint: str, detail: str = "") -> None:
        super().__init__(reason)
        self.url = url
        self.reason = reason
        self.hint = hint
        self.detail = detail

    def without_traces(self) -> "ApiFault":
        """Return this without what it was raised from, whose frames keep whole answers alive."""
        self.__cause__ = self.__context__ = None
        return self.with_traceback(None)


class ApiUnreachable(ApiFault):
    """No complete answer arrived."""

    badge = "API down"
    title = "The API does not answer"


class AnswerUnusable(ApiFault):
    """An answer arrived, and it was not the one asked for."""


class AnswerNotUnderstood(AnswerUnusable):
    """The answer does not have the shape that the contract gives it."""

    badge = "Not understood"
    title = "The API answers, and its answer is not understood"


class ApiRefuses(AnswerUnusable):
    """The API will not do it: `status` is from 400 to 499, or 507."""

    badge = "API refuses"
    title = "The API refuses"

    def __init__(self, status: int, url: str, reason: str, hint: str, detail: str = "") -> None:
        super().__init__(url, reason, hint, detail)
        self.status = status

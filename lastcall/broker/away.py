"""Why an engine is away, in words for an operator."""


def reason(problems: BaseExceptionGroup[Exception]) -> str:
    """One of *problems*: that of the task that noticed first."""
    problem: BaseException = problems
    while isinstance(problem, BaseExceptionGroup):
        problem = problem.exceptions[0]
    return str(problem) or "it does not answer in time"  # a TimeoutError has no words

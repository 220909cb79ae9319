"""A time limit for one call that Python cannot interrupt: a library's code, or a socket."""

import queue
import threading
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")


def call_within(seconds: float, function: Callable[[], Result]) -> Result:
    """function(), called in a thread of its own. Raises TimeoutError if it takes longer, and what the function raises.

    A call that takes longer goes on in its thread, which nobody can stop; the thread does not keep the program alive.
    Signals are handled meanwhile. The thread costs a tenth of a millisecond.
    """
    answers: queue.SimpleQueue = queue.SimpleQueue()

    def call() -> None:
        try:
            answers.put((function(), None))
        except BaseException as error:
            answers.put((None, error))

    threading.Thread(target=call, daemon=True).start()
    try:
        result, error = answers.get(timeout=max(seconds, 0.0))
    except queue.Empty:
        raise TimeoutError("timed out") from None
    if error is not None:
        raise error
    return result

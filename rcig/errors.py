"""Errors that are meant for people: one line that says what was wrong, what was given, and the usual fix."""


class Foreseen(Exception):
    """The base of them all. An entry point prints it as one line; anything else is a defect and keeps its traceback."""


class ParamsError(Foreseen, ValueError):
    """A setting that cannot be used."""


class DataError(Foreseen, ValueError):
    """A dataset that cannot be used: what is wrong, where it was sought, how to mend it."""


class StoreError(Foreseen, ValueError):
    """A file that is missing, damaged or of another kind."""


class DivergedError(Foreseen, RuntimeError):
    """A loss that is not a finite number: step, terms, the last good state where there is one."""


class TooLargeError(Foreseen, MemoryError):
    """What would take more memory than is free: how much, how much is free, what to lower."""

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


_AMISS: dict[type[OSError], str] = {
    FileNotFoundError: "no such file or folder; correct the path, or make it by `dvc repro`",
    FileExistsError: "a file lies where a folder belongs; move it away",
    NotADirectoryError: "a file lies where a folder belongs; move it away",
    IsADirectoryError: "a folder lies where a file belongs; move it away",
    PermissionError: "may not be read or written; correct its permissions, or work in a folder of your own",
}


def of_path(error: OSError) -> str:
    """An error of the system about a path in the same words: the path, what is wrong with it, the usual fix."""
    path = error.filename if error.filename2 is None else error.filename2
    return f"{path}: {_AMISS.get(type(error), error.strerror)}"

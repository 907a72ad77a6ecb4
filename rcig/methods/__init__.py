"""One file a method: its settings with their defaults, its members, its differences from the paper, and `make`.

A method's file has

    Settings      a frozen dataclass: every setting with its default, beside the paper's value and the reference code's
    MEMBERS       name -> Member: the methods that this file makes, and what sets each apart
    make          (settings, Setup) -> Method

and may have

    check         (settings, images, classes) -> None: raises ParamsError for settings that do not fit such a set
    chosen        (settings, Setup) -> settings, where a choice depends on the machine
    record        (settings, path) -> Record: of a set that was made elsewhere, what its maker says of it

and one line in `registry`. Nothing here imports a method by name: code that a run does not use is no part of it.
"""

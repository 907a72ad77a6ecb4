"""Where on the page a set has its section."""

from markupsafe import Markup

from rcig.escape import file_name


def anchor(experiment: str) -> str:
    return f"set-{file_name(experiment)}"


def link(experiment: str) -> Markup:
    """The set's name, which leads to its section."""
    return Markup('<a href="#{}">{}</a>').format(anchor(experiment), experiment)

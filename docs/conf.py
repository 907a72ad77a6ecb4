"""How Sphinx builds these pages: `make docs`. Nothing is fetched, neither while building nor while reading."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE / "_ext")]

project = "rcig"
author = copyright = "the rcig authors"
extensions = ["myst_parser", "sphinx.ext.autodoc", "mathml", "from_code", "docstrings"]
exclude_patterns = ["_ext"]
myst_enable_extensions = ["dollarmath", "deflist"]
myst_heading_anchors = 3
default_role = "code"
autodoc_default_options = {"members": True, "undoc-members": True, "member-order": "bysource"}
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
html_theme = "furo"
html_title = "rcig"
html_static_path = ["_static"]
html_css_files = ["wide.css"]
html_copy_source = False
html_math_renderer = "mathml"

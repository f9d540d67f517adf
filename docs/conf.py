"""How Sphinx makes the book. `python3 run.py book` gathers its pages first: see tools/book.py."""

import minigpt

project = "minigpt"
author = "The minigpt authors"
copyright = "2026, the minigpt authors · text and pictures CC BY 4.0, code MIT"
release = version = minigpt.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx-mathjax-offline"]
root_doc = "index"
suppress_warnings = ["misc.highlighting_failure"]       # a traceback in a text is no Python

# Notebooks as they are stored: nothing is run, so that a reader sees what the tests have compared.
nb_execution_mode = "off"
nb_code_prompt_show = "Show the code"
nb_code_prompt_hide = "Hide the code"
nb_merge_streams = True

myst_enable_extensions = ["dollarmath", "attrs_inline", "colon_fence"]
myst_heading_anchors = 3

# Formulas in a prediction's question stand in HTML between dollar signs.
mathjax3_config = {"tex": {"inlineMath": [["$", "$"], ["\\(", "\\)"]]}}

# Docstrings are plain English with `names` in backticks, signatures as they are written.
default_role = "code"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "undoc-members": False, "show-inheritance": False}
autodoc_typehints = "signature"
add_module_names = False

html_theme = "sphinx_book_theme"
html_title = "minigpt"
html_static_path = ["_static"]
html_css_files = ["book.css"]
html_extra_path = ["play.html"]         # the playground: a page of its own, which no theme goes around
html_context = {"default_mode": "auto"}
html_show_search_summary = False         # it would fetch every page found, which a browser refuses for files
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "show_toc_level": 2,
    "use_download_button": False,
    "use_fullscreen_button": False,
    "show_navbar_depth": 1,
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}

"""The studio: a local web page to sample, compare, edit, and look at runs and plans.

    server       the address, the environment, and the end
    place        what the page may see: one folder, or one checkpoint, and the few models kept in memory
    page         the tabs: one view each, listed in `VIEWS`
    views/       one file a view: a function ``view(place)`` that is called inside its tab

What the views share:

    choices      of a checkpoint, a class and a method
    work         slow work: its buttons, its progress, its errors
    follow       an edit, which is one call, seen while it runs
    pictures     pictures on the page, without files
    same         the box with the command and the Python lines that do the same
    wanted       the images that a form asks for; made: the finished ones; one_picture: the panel about one

Gradio is imported by `server`, after the environment is prepared. Torch is imported when the page stands
already: no module here imports it, or what imports it, when it is loaded.
"""

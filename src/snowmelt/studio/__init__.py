"""The studio: a local web page to sample, compare, edit and look at runs and plans.

    place       what the page may see: one folder, or one checkpoint, and the few models kept in memory
    server      the address, the environment, and the end
    page        the tabs: one view each, listed in `VIEWS`
    work        slow work: its buttons, its progress, its errors
    pictures    pictures on the page, without files
    same        the box with the command and the Python lines that do the same
    views/      one file a view: a function ``view(place)`` that is called inside its tab

Gradio is imported by `server.serve`, after the environment is prepared. Torch is imported when the page
stands already. So no module here imports torch, or what imports it, when it is loaded.
"""

"""From a validated configuration to objects: one module a mode, so that neither loads the other's code."""

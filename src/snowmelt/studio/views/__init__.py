"""The views, one file each: a function ``view(place)`` that is called inside its tab."""

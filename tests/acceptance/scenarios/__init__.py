"""The scenarios, by theme. Each is a function of a `run.Bench`, named as the runner prints it."""

from . import bad_input, devices, guided, lifecycle, outages, probing

ALL = [*bad_input.ALL, *lifecycle.ALL, *guided.ALL, *devices.ALL, *probing.ALL, *outages.ALL]
# Measures the daemon at its full size, on all cores.
ALONE = [guided.reference_site]
LONG = [guided.guided, *devices.ALL[:4], *outages.ALL]

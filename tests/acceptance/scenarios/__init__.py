"""The scenarios, by theme. Each is a function of a `run.Bench`, named as the runner prints it."""

from . import bad_input, clocks, devices, guided, lifecycle, outages, probing, rtu, stalls

ALL = [*bad_input.ALL, *lifecycle.ALL, *guided.ALL, *devices.ALL, *probing.ALL, *rtu.ALL,
       *outages.ALL, *stalls.ALL, *clocks.ALL]
# What measures needs all cores: the full size, and milliseconds.
ALONE = [guided.reference_site, stalls.disk_stalls]
LONG = [guided.guided, devices.controller_dies, *devices.ALL[:4], *rtu.ALL, *outages.ALL]

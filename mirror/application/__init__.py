"""The one ring that names concrete classes: builds, starts, stops, wires.

`settled`: what follows from the settings alone · `core`: store, catalog, upstreams, cache · `verbs`: operations and the
routes of `/api/v1/` · `building`: all of it together, started and stopped · `process`: `mirror serve` · `ephemeral`: a
mirror for the sake of one command.
"""

from mirror.application.building import Application, running
from mirror.application.ephemeral import ephemeral
from mirror.application.process import describe_settings, load_settings, serve

__all__ = ["Application", "describe_settings", "ephemeral", "load_settings", "running", "serve"]

"""One file per verb: what a person or the API asks for. Nothing here knows an HTTP request."""

"""`/api/v1/`: what the command line asks for, one file per resource."""

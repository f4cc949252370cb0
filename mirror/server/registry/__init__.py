"""`/v2/`, one file per resource of the OCI distribution specification."""

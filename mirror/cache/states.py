"""The states of a flight.

opening ──► flying ──► verified ──► landed            stored, linked, gone from the table
   │           ├─────► unstored                       the disk cannot take it: readers go on by themselves
   └───────────┴─────► failed                         every reader's connection is aborted
"""

from enum import Enum


class State(Enum):
    OPENING = "opening"
    FLYING = "flying"
    VERIFIED = "verified"
    LANDED = "landed"
    UNSTORED = "unstored"
    FAILED = "failed"

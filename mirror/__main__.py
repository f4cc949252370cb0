"""`python -m mirror`: the command line."""

from mirror.cli import run

if __name__ == "__main__":
    run()

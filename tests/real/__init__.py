"""Real daemons and clients on this machine. Without root, or without their packages, these tests are skipped."""

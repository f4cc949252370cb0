"""Measurements beside peers (`python -m benchmarks`) and the demonstration (`python -m benchmarks.demo`)."""

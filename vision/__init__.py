"""Computes: arrays in, values out. No clocks, threads or sockets; the one thing it reads is a model package."""

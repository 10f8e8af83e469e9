"""The pure core: contracts, validation, features and their state.

Nothing in here reads a clock, an environment variable, a file or a network, and
``tests/unit/test_architecture.py`` holds it to that.
"""

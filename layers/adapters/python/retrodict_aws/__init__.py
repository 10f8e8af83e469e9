"""The ports of the core over AWS; the only package that calls it."""

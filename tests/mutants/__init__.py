"""Defects that exactness could have, each of which a test has to catch."""

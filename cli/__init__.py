"""The command `retrodict`: thin over the layers, the same for the twin and for AWS."""

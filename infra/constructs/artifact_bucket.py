"""The artifact bucket: what training leaves behind, by the digest of its content."""

from infra.constructs.bucket import KeptBucket


class ArtifactBucket(KeptBucket):
    """A bucket of models, training sets and reference profiles."""

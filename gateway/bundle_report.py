"""What a bundle's manifest tells people: the data it was trained on, and how good it was then."""

from collections.abc import Mapping
from dataclasses import dataclass

from serving.bundle.manifest import Manifest, QualityRecord


@dataclass(frozen=True)
class BundleReport:
    """What was measured when a bundle was trained."""

    dataset_tag: str
    protocol: str
    """How ratings were split; empty when the recipe does not say."""
    metrics: Mapping[str, Mapping[str, float]]
    """By model, then metric; of the test part."""
    quality: QualityRecord | None
    """How sure the metrics are; none when the manifest does not say."""

    @classmethod
    def of(cls, manifest: Manifest) -> "BundleReport":
        """The part of a manifest that people read."""
        return cls(
            dataset_tag=manifest.dataset_tag,
            protocol=str(manifest.recipe.get("protocol", "")),
            metrics=manifest.metrics,
            quality=manifest.quality,
        )

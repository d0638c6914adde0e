"""Runs as functions. A variant is another function that replaces what differs."""

# Short name -> "module:function"; resolved lazily, so listing the recipes imports nothing.
RECIPES: dict[str, str] = {
    "face": "vivavoce.recipes.face:face",
    "interior": "vivavoce.recipes.interior:interior",
    "mouth": "vivavoce.recipes.mouth:mouth",
    "moda": "vivavoce.recipes.moda:moda",
    "moda-coarse-to-fine": "vivavoce.recipes.ablation:coarse_to_fine",
    "moda-one-stream": "vivavoce.recipes.ablation:one_stream",
    "moda-cross": "vivavoce.recipes.ablation:cross",
    "moda-liveportrait-small": "vivavoce.recipes.moda_liveportrait:small",
    "moda-liveportrait-paper": "vivavoce.recipes.moda_liveportrait:paper",
    "toy-moda-liveportrait": "vivavoce.recipes.moda_liveportrait:toy",
    "liveportrait-paper": "vivavoce.recipes.keypoint:paper",
    "toy-liveportrait": "vivavoce.recipes.keypoint:toy",
    "moda-synced": "vivavoce.recipes.sync:synced",
    "sync-expert": "vivavoce.recipes.sync:expert",
    "toy-sync": "vivavoce.recipes.sync:toy",
    "toy-moda": "vivavoce.recipes.moda:moda_toy",
    "phones": "vivavoce.recipes.phones:main",
    "lips": "vivavoce.recipes.lips:main",
    "phones-synthetic": "vivavoce.recipes.phones:synthetic_only",
    "toy-motion": "vivavoce.recipes.toy:motion",
    "toy-duel": "vivavoce.recipes.toy:duel",
}

"""Runs as functions. A variant is another function that replaces what differs."""

# Short name -> "module:function"; resolved lazily, so listing the recipes imports nothing.
RECIPES: dict[str, str] = {
    "face": "vivavoce.recipes.face:face",
    "interior": "vivavoce.recipes.interior:interior",
    "mouth": "vivavoce.recipes.mouth:mouth",
    "moda": "vivavoce.recipes.moda:moda",
    "toy-moda": "vivavoce.recipes.moda:moda_toy",
    "phones": "vivavoce.recipes.phones:main",
    "lips": "vivavoce.recipes.lips:main",
    "phones-synthetic": "vivavoce.recipes.phones:synthetic_only",
    "toy-motion": "vivavoce.recipes.toy:motion",
    "toy-duel": "vivavoce.recipes.toy:duel",
}

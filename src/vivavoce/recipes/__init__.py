"""Runs as functions. A variant is another function that replaces what differs."""

# Short name -> "module:function"; resolved lazily, so listing the recipes imports nothing.
RECIPES: dict[str, str] = {
    "toy-motion": "vivavoce.recipes.toy:motion",
    "toy-duel": "vivavoce.recipes.toy:duel",
}

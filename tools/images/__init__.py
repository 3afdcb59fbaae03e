"""The project's container images, built from a checkout without a container engine's daemon or a registry."""

from images.builder import Archive, build
from images.errors import ImagesError
from images.recipes import RECIPES, Recipe

__all__ = ["RECIPES", "Archive", "ImagesError", "Recipe", "build"]

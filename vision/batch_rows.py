"""Which row of a model's batch shows which region.

Rows of most models are alike: regions take them in the recipe's order. A model whose card names its views (``input.views``) has a
row for each, which it judges by what it knows of that view alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vision.faults import Fault
from vision.model_input import ModelInput
from vision.recipe import Recipe, Region, View


def batch_rows(recipe: Recipe, model_input: ModelInput) -> int:
    """Rows of the batch that the recipe's regions are judged in."""
    return len(model_input.views) or recipe.region_count


def rows_by_camera(recipe: Recipe, model_input: ModelInput) -> dict[str, tuple[int, ...]]:
    """The row of each region of each view, in the recipe's order. Raises ValueError where ``row_faults`` finds any."""
    if not model_input.views:
        rows: dict[str, tuple[int, ...]] = {}
        first = 0
        for view in recipe.views:
            rows[view.camera_id] = tuple(range(first, first + len(view.regions)))
            first += len(view.regions)
        return rows
    return {
        view.camera_id: tuple(
            model_input.views.index(_named(view, region, model_input.views)) for region in view.regions
        )
        for view in recipe.views
    }


def view_name(view: View, region: Region) -> str:
    """What shows in a region: its camera where that has no other, ``camera.region`` where it has several."""
    return view.camera_id if len(view.regions) == 1 else f"{view.camera_id}.{region.name}"


def row_faults(recipe: Recipe, model_input: ModelInput, file: str) -> Iterator[Fault]:
    """Regions that are none of the views that the model knows, or the same as another; ``file`` names the recipe's."""
    if not model_input.views:
        return
    known, taken = ", ".join(model_input.views), set()
    for view_index, view in enumerate(recipe.views):
        for index, region in enumerate(view.regions):
            name, key = _named(view, region, model_input.views), f"views.{view_index}.regions.{index}"
            if name not in model_input.views:
                expected = (
                    f"one of the views that the model knows by name: {known}; call the camera so, or teach this view"
                )
                yield Fault(file, key, repr(name), f"{expected} (camera, or camera.region where it has several)")
            elif name in taken:
                yield Fault(file, key, f"{name!r} once more", "each view that the model knows once")
            taken.add(name)


def _named(view: View, region: Region, views: Sequence[str]) -> str:
    """Also by its region where the camera has no other one here."""
    whole = f"{view.camera_id}.{region.name}"
    return whole if whole in views else view_name(view, region)

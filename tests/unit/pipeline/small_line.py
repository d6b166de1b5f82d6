"""A line of one camera, as a worker gets it."""

from __future__ import annotations

import json

from pipeline.camera_config import FolderCamera
from pipeline.config import Line
from pipeline.config_sections import LineRulesConfig, RecordsConfig, RunRule, TimingConfig
from pipeline.line_config import LineConfig
from vision.recipe import Recipe
from vision.types import PixelFormat

LINE = Line.from_json(
    json.dumps(
        {
            "file": "/line.yaml",
            "config": LineConfig(
                topic_root="plant/line",
                recipe="/recipe.yaml",  # type: ignore[arg-type]
                cameras=[
                    FolderCamera(
                        camera_id="cam0",
                        kind="folder",
                        folder="/images",  # type: ignore[arg-type]
                        width_px=8,
                        height_px=8,
                        pixel_format=PixelFormat.MONO8,
                        parts_per_min=60.0,
                    )
                ],
                timing=TimingConfig(deadline_us=100_000),
                records=RecordsConfig(path="/records.db"),  # type: ignore[arg-type]
                line_rules=LineRulesConfig(consecutive_rejects=RunRule(count=3, action="stop")),
            ).model_dump(mode="json"),
            "recipe_file": "/recipe.yaml",
            "recipe": Recipe.model_validate_json(
                json.dumps(
                    {
                        "recipe_id": "r",
                        "recipe_version": "1",
                        "model": "/model",
                        "views": [
                            {
                                "camera_id": "cam0",
                                "regions": [{"name": "all", "x_px": 0, "y_px": 0, "width_px": 8, "height_px": 8}],
                            }
                        ],
                        "rules": [{"class": "defective", "reject_at_score": 0.5}],
                    }
                )
            ).model_dump(mode="json", by_alias=True),
        }
    )
)

"""Make real exports, small and with random weights, and keep what the exporter itself says of an image beside each.

    python scripts/make_exports.py FAMILY --out DIR [--only NAME ...]

`tests/conformance/test_real_exports.py` holds Lineside against DIR (`LINESIDE_EXPORTS=DIR pytest ...`).  Each export is
NAME.onnx, NAME.json (how it was made) and NAME.npz:

    frame_bgr            uint8 (height, width, 3): the image, not square
    input                float32 (1, channels, height, width): the exporter's own pre-processing of it
    output.TENSOR        what ONNX Runtime gives for `input`
    boxes_px, scores, class_ids, masks            the exporter's own post-processing, in pixels of `input`
    frame_boxes_px, frame_scores, frame_class_ids, frame_masks, frame_labels     and in pixels of `frame_bgr`
    probabilities, labels, anomaly_map, pred_score, pred_label, pred_mask        and of the other tasks

Weights are random (seed 0): batch statistics are taken over rendered parts and the last layer's outputs are scaled, so
that some hundred candidates pass a threshold.  Each family needs an environment of its own with `onnx`, `onnxruntime`,
`opencv-python` and

    ultralytics   ultralytics onnxslim (run with 8.4.190; older versions take the same command: see VERSIONED)
    yolov5        the package yolov5 7.0.14
    torchvision   torchvision timm segmentation-models-pytorch onnxscript
    anomalib      anomalib >= 2 (run with 2.7.0)
    anomalib1     anomalib 1.2.0 with pandas < 2.2
    detector      as ultralytics: trains on rendered parts, ten minutes on one core, and writes the labelled parts too
    anomaly       as anomalib: the same for an anomaly model
    stripped      nothing more: copies of some of the others without names and metadata

Nothing is downloaded.  The programs used have licences of their own (Ultralytics and yolov5: AGPL-3.0); their weights and
exports stay outside this project.
"""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path

FAMILIES = {
    "ultralytics": "exporting.of_ultralytics",
    "yolov5": "exporting.of_yolov5",
    "torchvision": "exporting.of_torchvision",
    "anomalib": "exporting.of_anomalib",
    "anomalib1": "exporting.of_anomalib1",
    "detector": "exporting.rendered_detector",
    "anomaly": "exporting.rendered_anomaly",
    "stripped": "exporting.index",
}


def main() -> None:
    """Makes the exports of one family, and the index of all that are there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("family", choices=FAMILIES)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", nargs="*", default=[], metavar="NAME")
    arguments = parser.parse_args()
    out = arguments.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    # One family's exporter is not installed beside another's.
    importlib.import_module(FAMILIES[arguments.family]).make(out, set(arguments.only))
    importlib.import_module("exporting.index").write_index(out)


if __name__ == "__main__":
    main()

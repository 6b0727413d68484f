#!/usr/bin/env bash
# Does restoring help my detector? The commands of docs/tutorials/detector.md.
#
#     examples/detector.sh [PHOTOS [DETECTOR [NEW]]]
#
# PHOTOS: folder of an ultralytics data.yaml; DETECTOR: a .pt file that you trust; NEW: folder of degraded photos.
set -euo pipefail
cd "$(dirname "$0")/.."
export PHOTOS=${1:-../photos}
export DETECTOR=${2:-weights/mine.pt}
export NEW=${3:-../new-photos}

cp params.photos.yaml params.yaml
uv run dvc exp run -S data.source=yolo -S "data.root=$PHOTOS" -S data.longest_side=640 \
  -S '++data.yolo={name: mine, project: data.yaml}' -S 'degradations=[lowlight]' -S 'tasks=[detection]' \
  -S "++train_task.detection={weights: $DETECTOR, frozen: true, trust_pickle: true, image_size: 640}"

head -n 20 artifacts/report/report.md

uv run python -m pipeline.commands.deploy --degradation lowlight --objective diffloss

uv run python -m pipeline.commands.gate --task detection --degradation lowlight --objective diffloss --with-clean

uv run python -m pipeline.commands.restore_files --restorer deployed/lowlight-diffloss \
  --input "$NEW" --output restored --gate deployed/gate-detection-lowlight-diffloss \
  --network artifacts/tasks/detection

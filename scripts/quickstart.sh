#!/usr/bin/env bash
# Installs Gradloom into .venv and trains a GAN on handwritten digits, in a few minutes on a CPU.
set -euo pipefail
source "$(dirname "$0")/venv.sh" demo
.venv/bin/python train.py -opt options/digits/quickstart.yml "$@"
cat <<'EOF'

Next:
  look at the digits:      the images above; each file is named by its iteration
  watch the curves:        .venv/bin/tensorboard --logdir experiments
  read what was run:       .venv/bin/python train.py -opt options/digits/quickstart.yml --show listing
  change something:        .venv/bin/python train.py -opt options/digits/quickstart.yml --set name=mine train.niter=3000
  real photographs:        .venv/bin/python train.py -opt options/photos/esrgan_x2.yml
  write a part of yours:   docs/writing-a-part.md
EOF

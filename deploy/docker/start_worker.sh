#!/bin/sh
# Takes flow runs from the process work pool in the current folder, a clone of the repository: compose.yaml's worker.
set -eu
prefect work-pool create modelpress --type process --overwrite
prefect --no-prompt deploy --name nightly
exec prefect worker start --pool modelpress --type process

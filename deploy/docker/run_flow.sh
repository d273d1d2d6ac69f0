#!/bin/sh
# What a work pool starts for each flow run: a workspace, what other machines have made already, the run, and what it made.
#   MODELPRESS_REPOSITORY   git URL the workspace is cloned from and kept up to; without, the workspace is as it is
#   MODELPRESS_WORKSPACE    its folder; the current one without
#   MODELPRESS_REMOTE       DVC remote, s3://BUCKET/PATH; AWS_ENDPOINT_URL and AWS_* say where and who
set -eu

cd "${MODELPRESS_WORKSPACE:-.}"
if [ -n "${MODELPRESS_REPOSITORY:-}" ]; then
    if [ -d .git ]; then git pull --quiet --ff-only; else git clone --quiet "$MODELPRESS_REPOSITORY" .; fi
fi

if [ -n "${MODELPRESS_REMOTE:-}" ]; then
    dvc remote add --quiet --local --force --default storage "$MODELPRESS_REMOTE"
    export MODELPRESS_PULL=1  # a stage that another machine ran on the same inputs is restored, not computed
fi

status=0
prefect flow-run execute || status=$?

# after a failure too: the stages that ended well are worth keeping
if [ -n "${MODELPRESS_REMOTE:-}" ]; then
    dvc push --quiet --run-cache
    echo "pushed to $MODELPRESS_REMOTE"
fi
exit "$status"

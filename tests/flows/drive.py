"""Runs the flow in the current folder and prints {stage: state} as JSON: what the flow tests start as a process."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from pipelines.run_command import connect_prefect


def main() -> int:
    """Return 0 when all stages are up to date, 1 when one failed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--jobs", type=int)
    parser.add_argument("--force", action="store_true")
    options = parser.parse_args()
    connect_prefect(Path.cwd())
    from pipelines.flow import PipelineFailed, pipeline
    from pipelines.progress import PlainView, viewing

    with viewing(PlainView()) as view:
        try:
            pipeline(jobs=options.jobs, force=options.force, track=False)
        except PipelineFailed:
            return 1
        except KeyboardInterrupt:
            return 130
        finally:
            print("STATES " + json.dumps({name: stage.state for name, stage in view.stages.items()}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

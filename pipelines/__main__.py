"""`python -m pipelines STAGE [KEY]`: what dvc.yaml's commands call. Exit 0 done, 1 failed, 2 and would again."""

from __future__ import annotations

import sys

from components.core.errors import ModelpressError, did_you_mean
from pipelines.stages import STAGES


def main(arguments: list[str]) -> int:
    """Run one stage; errors a user can mend are one line each on stderr."""
    if not arguments or arguments[0] not in STAGES or len(arguments) > 2:
        known = did_you_mean(arguments[0] if arguments else "", STAGES)
        print(f"usage: python -m pipelines STAGE [KEY]{known}", file=sys.stderr)
        return 2
    try:
        STAGES[arguments[0]](arguments[1] if len(arguments) == 2 else "")
    except ModelpressError as error:
        print(error, file=sys.stderr)
        return 2
    except OSError as error:  # a full disk, a missing right: the system's own words name the file
        print(f"{' '.join(arguments)}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Answer with the bundle that lies beside this script. Needs numpy, onnxruntime, and sentencepiece for subwords.

python run.py "text" · python run.py --file FILE · python run.py - (lines from standard input) · python run.py --report
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

HERE = Path(__file__).parent
BUNDLE = HERE / "bundle"


def main() -> int:
    """Print one line for each line given, as `modelpress predict` does, or the report."""
    parser = argparse.ArgumentParser(description="Answer with the bundle beside this script.")
    parser.add_argument("text", nargs="?", help="one input; - reads lines from standard input")
    parser.add_argument("--file", type=Path, help="a file of inputs, one a line")
    parser.add_argument("--report", action="store_true", help="install size, memory and times of this device, as JSON")
    given = parser.parse_args()
    if sum((given.text is not None, given.file is not None, given.report)) != 1:
        parser.error('give one of: a "text", --file FILE, - for standard input, or --report')
    if given.report:
        from report import print_report  # type: ignore[import-not-found]  # beside this script on the device

        print_report(HERE)
        return 0
    return answer(given.text, given.file)


def answer(text: str | None, file: Path | None) -> int:
    """Print the answers; return the exit code, 2 for a mistake the user can mend."""
    from components.core.errors import ModelpressError
    from components.inference import load_predictor

    try:
        predictor = load_predictor(BUNDLE)
        for line in predictor.predict(inputs(text, file)):
            print(line)
    except (ModelpressError, OSError, UnicodeDecodeError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def inputs(text: str | None, file: Path | None) -> list[str]:
    """Return the inputs: the text itself, or the lines of a file or of standard input."""
    if text is not None and text != "-":
        return [text]
    return (file.read_text(encoding="utf-8") if file else sys.stdin.read()).splitlines()


if __name__ == "__main__":
    sys.exit(main())

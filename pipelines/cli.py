"""The console command `modelpress`: parse, call, print. What a command needs is imported inside it, to start fast."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from components.core.errors import ModelpressError
from pipelines.ship_commands import ship

USER_ERROR = 2

app = typer.Typer(
    help="From versioned data to a compressed, proven ONNX bundle.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
Recipes = Annotated[
    list[str] | None, typer.Argument(help="Recipes of params.yaml; its `default` without.", show_default=False)
]
Recipe = Annotated[str, typer.Argument(help="A recipe of params.yaml.")]
Jobs = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Stages at a time, each with its share of the cores. Without: training and compression one at a time with "
        "all cores, the other stages side by side.",
        show_default=False,
    ),
]
Promote = Annotated[
    bool, typer.Option("--promote", help="Make a newly registered version the champion, if it passes the gate.")
]


@app.command()
def run(
    recipes: Recipes = None,
    every: Annotated[bool, typer.Option("--all", help="All recipes.")] = False,
    assignments: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change params.yaml first.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Run every stage, changed or not.")] = False,
    jobs: Jobs = None,
    promote: Promote = False,
) -> None:
    """Bring recipes up to date: fetch, prepare, train, compress, export, evaluate, package, measure, select, report.

    Only what changed runs again; after an interruption it goes on from there.

    Example: modelpress run tatoeba-transformer --set recipes.tatoeba-transformer.train.epochs=3
    """
    from pipelines import run_command
    from pipelines.orphans import show_orphans

    root, console = Path.cwd(), Console()
    run_command.apply_settings(root, assignments or [], recipes or [], console)
    with console.status("Checking params.yaml"):
        params = run_command.load_checked_params(root)
    chosen = run_command.chosen_recipes(params, recipes or [], every)
    code = run_command.run(root, params, run_command.RunOptions(chosen, jobs, force, promote), console)
    if code == 0:
        show_orphans(root, params, console)
    raise typer.Exit(code)


@app.command()
def search(
    recipe: Recipe,
    max_size: Annotated[str | None, typer.Option(metavar="300KB", help="Bytes of graphs and assets.")] = None,
    max_p50: Annotated[str | None, typer.Option(metavar="1.5ms", help="Median latency at batch 1.")] = None,
    min_quality: Annotated[str | None, typer.Option(metavar="0.99", help="Share of the teacher's quality.")] = None,
    trials: Annotated[int, typer.Option(min=1, help="All in all, those of an interrupted search included.")] = 40,
    jobs: Annotated[int, typer.Option(min=1, help="Trials at a time; each gets its share of the cores.")] = 1,
    max_time: Annotated[str | None, typer.Option(metavar="30min", help="Train nothing that would last longer.")] = None,
) -> None:
    """Search sizes, sparsity and precision together for the best variant within a budget; the recipe's where left out.

    Only dev is looked at. Killed, it goes on where it was. Exit code 1: nothing fits, the nearest miss is named.

    Example: modelpress search tatoeba-transformer --max-size 3MB --max-p50 20ms --min-quality 0.97 --jobs 2
    """
    from pipelines.run_command import load_checked_params
    from pipelines.search.command import options_of
    from pipelines.search.command import search as run_search

    root, console = Path.cwd(), Console()
    with console.status("Checking params.yaml"):
        params = load_checked_params(root)
    options = options_of(params, recipe, max_size, max_p50, min_quality, trials, jobs, max_time)
    raise typer.Exit(run_search(root, options, params, console))


@app.command()
def status(recipes: Recipes = None) -> None:
    """Show which stages are fresh, which are stale and why, and the figures of the last run.

    Example: modelpress status tatoeba-transformer
    """
    from components.core.params import load_params
    from pipelines.dag import targets_of
    from pipelines.orphans import show_orphans
    from pipelines.run_command import chosen_recipes
    from pipelines.status_command import show_status

    root, params, console = Path.cwd(), load_params(), Console()
    chosen = chosen_recipes(params, recipes or [], every=False)
    show_status(root, chosen, targets_of(chosen, params), console)
    show_orphans(root, params, console)


@app.command()
def clean(
    yes: Annotated[bool, typer.Option("--yes", help="Without asking.")] = False,
) -> None:
    """Remove what stages made of names that params.yaml no longer has; it is listed, and you are asked, first.

    DVC's cache keeps a copy: put the name back, and `modelpress run` restores it. `dvc gc --workspace` frees that too.

    Example: modelpress clean
    """
    from components.core.params import load_params
    from pipelines.orphans import orphans, remove
    from pipelines.takeover import no_flow_beside

    found = orphans(Path.cwd(), load_params())
    if not found:
        print("Nothing to remove: all that stages made here is of names in params.yaml.")
        return
    print("\n".join(found))
    if yes or typer.confirm(f"Remove these {len(found)}?"):
        with no_flow_beside(Path.cwd()):  # what a running flow began with may be among them
            remove(Path.cwd(), found)
        print(f"Removed {len(found)}.")


@app.command()
def report(
    recipe: Annotated[
        str | None, typer.Argument(help="A recipe; the first default one without.", show_default=False)
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="A page that sets all recipes that were run side by side.")
    ] = False,
    open_it: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
) -> None:
    """Print where a recipe's report page is, and open it with --open.

    Example: modelpress report tatoeba-transformer --open
    """
    from components.core.params import load_params
    from pipelines.report_command import comparison_page, report_page

    if recipe and every:
        raise ModelpressError("a recipe or --all, not both")
    page = comparison_page(Path.cwd(), load_params()) if every else report_page(Path.cwd(), load_params(), recipe)
    print(page)
    if open_it:
        typer.launch(page.as_uri())


@app.command()
def ui() -> None:
    """Start the MLflow and Prefect user interfaces on this machine; Ctrl-C stops both.

    Example: modelpress ui
    """
    import signal
    import time

    from pipelines.servers import user_interfaces

    console = Console()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with user_interfaces(Path.cwd()) as servers:
            for server in servers:
                console.print(f"{server.name:8} {server.url}", highlight=False, soft_wrap=True)
            console.print("Ctrl-C stops both.")
            while all(server.process is None or server.process.poll() is None for server in servers):
                time.sleep(0.5)
            raise ModelpressError("a server ended; its log is in .modelpress/")
    except KeyboardInterrupt:
        console.print("Stopped.")


@app.command()
def predict(
    bundle: Annotated[str, typer.Argument(help="A bundle's folder, a variant, a recipe, or models:/NAME@champion.")],
    text: Annotated[
        str | None, typer.Argument(help="One input; - reads lines from standard input.", show_default=False)
    ] = None,
    file: Annotated[Path | None, typer.Option(help="A file of inputs, one a line.")] = None,
) -> None:
    """Answer with a bundle: one line out for each line in. Needs no torch.

    Example: modelpress predict tatoeba-transformer "I like music ."
    """
    from components.inference import load_predictor
    from pipelines.bundle_names import find_bundle

    if (text is None) == (file is None):
        raise ModelpressError('give one of: a "text", --file FILE, or - for standard input')
    predictor = load_predictor(find_bundle(Path.cwd(), bundle))
    for answer in predictor.predict(_inputs(text, file)):
        print(_printable(answer))


def _printable(answer: object) -> object:
    """Return a table of numbers as lines of CSV, any other answer as it is."""
    if isinstance(answer, list) and answer and all(isinstance(row, list) for row in answer):
        return "\n".join(",".join(map(str, row)) for row in answer)
    return answer


def _inputs(text: str | None, file: Path | None) -> list[str]:
    """Return the inputs; only a line feed ends a line, so that every line in has its line out."""
    if text is not None and text != "-":
        where, given = "the text", text.encode(errors="surrogateescape")  # as the shell handed it over
    else:
        where = str(file) if file else "standard input"
        try:
            given = file.read_bytes() if file else sys.stdin.buffer.read()
        except OSError as error:
            raise ModelpressError(f"{where}: {error.strerror}") from None
    try:
        decoded = given.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ModelpressError(f"{where}: not UTF-8 ({error.reason} at byte {error.start}); convert it first") from None
    if text is not None and text != "-":
        return [decoded]
    lines = decoded.split("\n")
    return [line.removesuffix("\r") for line in (lines if lines[-1] else lines[:-1])]


@app.command()
def schedule(
    recipe: Recipe,
    cron: Annotated[str, typer.Option(help="When, in cron's five fields, UTC.")],
    jobs: Jobs = None,
    promote: Promote = False,
) -> None:
    """Run a recipe again and again from this machine, as a Prefect deployment, until Ctrl-C.

    Example: modelpress schedule tatoeba-transformer --cron "0 3 * * *"
    """
    from pipelines.schedule_command import serve

    serve(Path.cwd(), recipe, cron, {"jobs": jobs, "promote": promote}, Console())


@app.command()
def promote(
    recipe: Recipe,
    version: Annotated[
        int | None, typer.Argument(help="A registered version; the newest without.", show_default=False)
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Past the gate, whatever it says.")] = False,
) -> None:
    """Make a registered version the champion, if it meets the budget and is not worse than the present one.

    Example: modelpress promote tatoeba-transformer 3
    """
    from components.core.params import load_params
    from components.tracking.registry import promote as promote_version

    known = load_params().recipes.get(recipe)
    _say_champion(promote_version(Path.cwd(), recipe, version, known.budget if known else None, force=force))


@app.command()
def rollback(recipe: Recipe) -> None:
    """Make the version that was live before the champion live again.

    Example: modelpress rollback tatoeba-transformer
    """
    from components.tracking.registry import rollback as roll_back

    _say_champion(roll_back(Path.cwd(), recipe))


def _say_champion(moved: dict[str, object]) -> None:
    before = f", before it version {moved['previous']}" if moved.get("previous") else ""
    print(f"{moved['recipe']}: champion is version {moved['version']} ({moved['variant']}){before}")


@app.command()
def versions(recipe: Recipe) -> None:
    """List a recipe's registered versions, their figures, and which was live when.

    Example: modelpress versions tatoeba-transformer
    """
    from components.tracking.registry import versions as registered_versions
    from pipelines.versions_table import versions_table

    Console().print(versions_table(recipe, registered_versions(Path.cwd(), recipe)))


@app.command()
def serve(
    bundles: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[BUNDLE]...",
            help="Folders, variants, recipes, models:/NAME@champion, models:/NAME/3; the default recipe without.",
        ),
    ] = None,
    host: Annotated[str, typer.Option(help="0.0.0.0: reachable from other machines.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one.")] = 8000,
    canary: Annotated[list[str] | None, typer.Option(metavar="models:/NAME/4=PERCENT", help="Gets a share.")] = None,
    shadow: Annotated[list[str] | None, typer.Option(metavar="models:/NAME/4", help="Answers too, unheard.")] = None,
    max_batch: Annotated[int, typer.Option(min=1, help="Inputs answered together.")] = 32,
    max_delay_ms: Annotated[float, typer.Option(min=0, help="How long one may wait for others.")] = 5.0,
    queue: Annotated[int, typer.Option(min=1, help="Inputs of a model that may wait; then 429.")] = 512,
    timeout: Annotated[float, typer.Option(min=0.01, help="Seconds until 504.")] = 30.0,
    max_request_mb: Annotated[float, typer.Option(min=0.001, help="MiB of a request; then 413.")] = 8.0,
    token: Annotated[
        str | None, typer.Option(envvar="MODELPRESS_TOKEN", help="Required of clients; better by environment.")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Batches at a time, a core each; all cores without.", show_default=False)
    ] = None,
    processes: Annotated[int, typer.Option(min=1, help="That share the address; for many small requests.")] = 1,
    require_signature: Annotated[
        Path | None, typer.Option(metavar="KEY", help="Only bundles signed by this public key's owner.")
    ] = None,
) -> None:
    """Serve bundles over HTTP: Open Inference Protocol v2, POST /predict/NAME, a page at /; until Ctrl-C.

    Example: modelpress serve models:/tatoeba-transformer@champion
    """
    from components.core.threads import threads as all_threads
    from deploy.server.settings import Settings
    from pipelines.serve_command import serve as serve_bundles

    settings = Settings(
        host=host, port=port, max_batch=max_batch, max_delay_ms=max_delay_ms, queue=queue, timeout_s=timeout,
        max_request_bytes=int(max_request_mb * 2**20), token=token or None,
        threads=threads or max(1, all_threads() // processes), processes=processes,
    )  # fmt: skip
    serve_bundles(Path.cwd(), bundles or [], canary or [], shadow or [], settings, require_signature)


app.add_typer(ship)


def main() -> None:
    """Run the command line; a user's mistake is its own text on stderr and exit code 2."""
    try:
        app()
    except ModelpressError as error:
        print(error, file=sys.stderr)
        sys.exit(USER_ERROR)


if __name__ == "__main__":
    main()

"""`modelpress sign, verify, pack, unpack, export-triton, export-web, export-edge`: a bundle, from packaged to used."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ship = typer.Typer()
BundleName = Annotated[
    str, typer.Argument(metavar="BUNDLE", help="A bundle's folder, a variant, a recipe, models:/NAME/3.")
]


@ship.command()
def sign(
    bundle: BundleName,
    key: Annotated[Path, typer.Option(help="Your EC private key, PEM.")],
) -> None:
    """Sign a bundle with your private key; a registered one (models:/NAME/3) there too, best before it is promoted.

    Example: modelpress sign tatoeba-transformer --key key.pem
    """
    from deploy.signing import sign as sign_bundle
    from pipelines.bundle_names import find_bundle

    signature = sign_bundle(find_bundle(Path.cwd(), bundle), key)
    if bundle.startswith("models:/"):
        from components.tracking.registry import upload_signature

        upload_signature(Path.cwd(), bundle, signature)
    print(f"signed: {signature}")


@ship.command()
def verify(
    bundle: BundleName,
    key: Annotated[
        Path | None, typer.Option(help="The signer's public key, PEM; without, only digests.", show_default=False)
    ] = None,
) -> None:
    """Check that a bundle is as it was packaged, and with --key whose it is; nothing in it is parsed before.

    Example: modelpress verify tatoeba-transformer --key pub.pem
    """
    from components.core.bundle import Bundle
    from deploy.signing import verify_signature
    from pipelines.bundle_names import find_bundle

    root = find_bundle(Path.cwd(), bundle)
    if key is not None:
        verify_signature(root, key)
    manifest = Bundle.load(root).manifest
    whose = f"signed by {key}'s owner" if key else "unchanged since it was packaged"
    print(f"{root}: {manifest.variant}, {len(manifest.files)} files, {whose}")


@ship.command()
def pack(bundle: BundleName, archive: Annotated[Path, typer.Argument(help="The .zip file to write.")]) -> None:
    """Write a bundle, with its signature where it has one, as one .zip file.

    Example: modelpress pack tatoeba-transformer translator.zip
    """
    from deploy.archive import pack as pack_bundle
    from pipelines.bundle_names import find_bundle

    print(pack_bundle(find_bundle(Path.cwd(), bundle), archive))


@ship.command()
def unpack(
    archive: Annotated[Path, typer.Argument(help="A .zip file of `modelpress pack`.")],
    folder: Annotated[Path, typer.Argument(help="The bundle's folder; it must not be there yet.")],
) -> None:
    """Unpack a bundle: whole and verified, or not at all.

    Example: modelpress unpack translator.zip translator
    """
    from deploy.archive import unpack as unpack_bundle

    print(unpack_bundle(archive, folder).root)


@ship.command()
def export_triton(
    bundle: BundleName,
    repository: Annotated[Path, typer.Argument(help="Triton's model repository; made where it is not there.")],
    version: Annotated[
        int | None, typer.Option(min=1, help="Of the model; the next free one without.", show_default=False)
    ] = None,
    gpu: Annotated[
        bool | None, typer.Option("--gpu/--cpu", help="Where it runs; GPU for fp16 without.", show_default=False)
    ] = None,
    max_batch: Annotated[int, typer.Option(min=1, help="Requests put together, where the graph allows it.")] = 32,
) -> None:
    """Add a bundle to a model repository of NVIDIA Triton Inference Server.

    Example: modelpress export-triton tatoeba-transformer models
    """
    from deploy.triton.config import Serving
    from deploy.triton.repository import export_triton as export
    from pipelines.bundle_names import find_bundle

    for folder in export(find_bundle(Path.cwd(), bundle), repository, version, gpu, Serving(max_batch=max_batch)):
        print(folder)


@ship.command()
def export_web(
    bundle: BundleName,
    folder: Annotated[Path, typer.Argument(help="Of the site; an earlier export is replaced.")],
) -> None:
    """Write a static site that runs a bundle in the browser, also without a network; any web server can send it.

    Example: modelpress export-web tatoeba-transformer site
    """
    from deploy.web.export import export_web as export
    from pipelines.bundle_names import find_bundle

    files = export(find_bundle(Path.cwd(), bundle), folder)["files"]
    print(f"{folder}: {len(files)} files, {sum(file['bytes'] for file in files.values()) / 1e6:.1f} MB")
    print(f"look at it: python -m http.server 8080 --bind 127.0.0.1 --directory {folder}")


@ship.command()
def export_edge(
    bundle: BundleName, folder: Annotated[Path, typer.Argument(help="To be copied; an earlier export is replaced.")]
) -> None:
    """Write a folder for a small device: a bundle, one script to run it, and the few packages that it needs.

    Example: modelpress export-edge tatoeba-transformer device
    """
    from deploy.edge.export import export_edge as export
    from pipelines.bundle_names import find_bundle

    export(find_bundle(Path.cwd(), bundle), folder)
    print(f"{folder}: copy it to the device, then: pip install -r requirements.txt && python run.py --report")

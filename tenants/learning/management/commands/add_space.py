"""`manage.py add_space hf:openai/clip-vit-base-patch32`: a model of the hub as a space for every workspace."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from ml.hub import AddingError, Limits, Wanted, add_space


class Command(BaseCommand):
    help = (
        "Fetch a CLIP, SigLIP or OpenCLIP model (or take a folder of one), export both towers and offer it to every "
        "workspace under Models."
    )
    # It asks nothing of the database.
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("source", help="hf:owner/model, or hf:/path/to/folder")
        parser.add_argument("--name", default="", help="by default the model's; a number is put behind it")
        parser.add_argument(
            "--revision", default="", help="a branch, tag or commit of the hub; default: main"
        )
        parser.add_argument(
            "--dimension",
            default="",
            help="numbers of a vector, or `own`; default: 256, or the model's own where that is less",
        )
        parser.add_argument("--precision", choices=("int8", "fp16", "fp32"), default="int8")
        parser.add_argument(
            "--languages", default="", help="that its text tower reads, such as en,zh; default: en"
        )
        parser.add_argument("--max-gb", type=float, default=8.0, help="of weights to fetch; default: 8")
        parser.add_argument(
            "--timeout", type=float, default=3600.0, help="seconds for all fetching; default: 3600"
        )

    def handle(self, *args: object, **options: Any) -> None:
        wanted = Wanted(
            source=options["source"],
            name=options["name"],
            revision=options["revision"],
            dimension=_dimension(options["dimension"]),
            precision=options["precision"],
            languages=tuple(one.strip() for one in options["languages"].split(",") if one.strip()),
            limits=Limits(total_bytes=int(options["max_gb"] * 1e9), total_s=options["timeout"]),
        )
        try:
            added = add_space(wanted, self.stdout.write)
        except AddingError as error:
            raise CommandError(f"{options['source']}: {error}") from error
        licence = added.manifest["source"]["licence"]
        if licence:
            self.stdout.write(f"licence of the weights, as their card says: {licence}")
        self.stdout.write(
            f"{added.slug} is here ({added.folder}): promote it under Models, or with "
            f"POST /api/v1/models/{added.slug}/promote"
        )


def _dimension(asked: str) -> int:
    if asked in ("", "own"):
        return 0 if asked else -1
    try:
        count = int(asked)
    except ValueError:
        count = 0
    if count < 1:
        raise CommandError(f"--dimension {asked!r} is neither a number from 1 nor `own`")
    return count

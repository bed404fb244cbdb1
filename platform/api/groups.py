"""The groups of the OpenAPI document, in the order in which one meets them, and what each is for.

A group is the first part of the paths in it.
"""

from __future__ import annotations

from typing import Final

GROUPS: Final = {
    "me": "Which key this is: its workspace, plan, scopes and quotas.",
    "keys": "Keys for programs: make, rotate and revoke them.",
    "datasets": "Folders of assets: make one, and put texts, pictures, recordings and films in.",
    "assets": "One text, picture, recording or film: its content, captions, metadata and transcript.",
    "uploads": "Large files in parts that go on after a cut connection (tus).",
    "imports": "Thousands of files at once, from an archive, a table or a bucket, with a receipt of every row.",
    "search": "Find assets by words, pictures, speech, films, vectors or several of them.",
    "jobs": "What goes on in the background: follow it, change its turn, cancel it or try it again.",
    "maps": "All vectors as points of a plane, and how much alike assets are.",
    "tasks": "Named weights of the parts of a search, for a purpose of your own.",
    "feedback": "What was chosen among the results of a search, to learn from.",
    "gate": "The model that weighs the parts of a search, learnt from feedback.",
    "policies": "Rules for content: write them, try them on the past, and let them decide.",
    "detectors": "What can be looked for in content, and what each detector is blind to.",
    "audits": "What was found in an item, what was decided, and why.",
    "hash-lists": "Known content, wanted or not, that is recognised in copies.",
    "reviews": "The queue of what people have to decide.",
    "outcomes": "What people decided, and how to take it back.",
    "batches": "Decisions about many items at once, taken back as a whole.",
    "appeals": "Objections to decisions, and what came of them.",
    "records": "The sealed record of all decisions: read it, check it, export it.",
    "finetunes": "Train a model on your own captioned pictures.",
    "models": "Models that answer searches: compare, promote and take back.",
    "golden-queries": "Searches with known answers, by which models are compared.",
    "classifiers": "Yes-or-no questions of your own, learnt from examples.",
    "generations": "Pictures, clips and music from words, marked as made by AI.",
    "webhooks": "Who is told when something happens, and what was sent.",
    "usage": "What was used, day by day.",
    "members": "People of the workspace and their roles.",
    "invitations": "People who are asked to join.",
    "roles": "What people may do: built-in roles, and roles of your own.",
    "security": "From which networks people and keys come in.",
    "provisioning": "Provisioning by an identity provider: tokens for `/scim/v2`, and which roles its people get.",
    "sso": "Single sign-on: identity providers of the workspace, and the domains that they speak for.",
    "operator-requests": "What operators of the installation ask for, and your answers.",
    "origins": "Websites that may call this API from a browser.",
    "exports": "Everything in the workspace as one file.",
    "erasures": "Erase a person's data, with a receipt of what was erased.",
}

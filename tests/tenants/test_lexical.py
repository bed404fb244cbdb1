"""The lexical index: words, ranking, what a tenant cannot see or measure of another, and which index answers."""

from __future__ import annotations

import secrets
import uuid

import pytest
from django.db import DatabaseError, connection, transaction

from tenants.datasets.models import Asset, Blob
from tenants.datasets.services import create_dataset
from tenants.pipeline.assets.services import add_asset, delete_asset
from tenants.retrieval.models import LexicalEntry
from tenants.retrieval.query import lexical
from tenants.retrieval.query.lexical import MAX_WORDS, Entry, tokens
from tenants.retrieval.types import Restriction
from tenants.scope import NoTenantScope, tenant_scope


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Red ceramic mugs - it's GLASS, no. 12.5!", "red ceramic mug s glass 12 5"),
        ("boxes dishes watches glasses ponies tomatoes", "box dish watch glass pony tomato"),
        ("bus analysis lens is was", "bus analysis len"),
        ("item_no iPhone15 R2-D2", "item iphone15 r2 d2"),
        ("Café ÀÉ Straße ｆｕｌｌ Ⅳ", "cafe ae strasse full iv"),
        ("红色的苹果手机 iPhone 和消防车", "红色 苹果 手机 iphone 消防 消防车"),
        ("ソフトウェア へ", "ソフ フト トウ ウェ ェア へ"),
        ("हिन्दी में किताब", "हिन्दी में किताब"),
        ("한국어 검색", "한국어 검색"),
        ("Ελλάδα Привет", "ελλαδα привет"),
        ("'; DROP TABLE asset; -- \\ & | ! <-> :*", "drop table asset"),
        ("the of 的 了", ""),
        ("", ""),
        ("a" * 99, "a" * 40),
    ],
)
def test_a_text_becomes_words(text: str, words: str) -> None:
    assert tokens(text) == words.split()


def test_composed_and_decomposed_spellings_are_one_word() -> None:
    assert tokens("cafe\u0301 か\u3099") == tokens("café が") == ["cafe", "が"]


def test_a_long_text_is_cut_at_its_bounds() -> None:
    assert len(tokens("word " * 100_000)) == MAX_WORDS
    assert len(tokens("词" * 100_000)) <= MAX_WORDS
    assert tokens("\ufdfa" * 100_000)[0] == "صلى"  # one character that unfolds into eighteen


class Library:
    """Texts of one tenant in the index, by a name for each."""

    def __init__(self, party, **texts: str) -> None:
        self.party = party
        self.ids: dict[str, uuid.UUID] = {}
        with tenant_scope(party.id):
            self.dataset = create_dataset(name=secrets.token_hex(6))
            self.blob = Blob.objects.create(sha256=secrets.token_hex(32), bytes=1, media_type="text/plain")
            lexical.index_texts([self._entry(name, text) for name, text in texts.items()])

    def _entry(self, name: str, text: str, fields: str = "", modality: str = "text") -> Entry:
        if name not in self.ids:
            asset = Asset.objects.create(dataset=self.dataset, blob=self.blob, modality=modality)
            self.ids[name] = asset.id
        return Entry(self.ids[name], self.dataset.id, modality, text, fields)

    def put(self, name: str, text: str, fields: str = "", modality: str = "text") -> None:
        with tenant_scope(self.party.id):
            lexical.index_texts([self._entry(name, text, fields, modality)])

    def find(self, query: str, limit: int = 50, **only) -> list[str]:
        names = {asset_id: name for name, asset_id in self.ids.items()}
        with tenant_scope(self.party.id):
            return [names[a] for a, _ in lexical.matching(query, limit, Restriction(**only))]


SHELF = {
    "mug": "A red ceramic mug for coffee, with a handle",
    "cup": "Paper cups, red, box of fifty",
    "bike": "A red bicycle with a basket and a bell and two good lamps",
    "fire": "红色的消防车停在路边",
    "cat": "小猫睡在沙发上",
}


@pytest.fixture
def shelf(party) -> Library:
    return Library(party, **SHELF)


def test_words_are_found(shelf) -> None:
    wanted = {
        "ceramic": ["mug"],
        "CUP": ["cup"],
        "bicycles": ["bike"],
        "消防车": ["fire"],
        "红色": ["fire"],
        "猫": ["cat"],
        "submarine": [],
        "the": [],
        "": [],
        "' & ! :* \\": [],
    }
    assert {query: shelf.find(query) for query in wanted} == wanted


def test_a_rare_word_counts_more_than_a_common_one_and_all_words_most(shelf) -> None:
    assert shelf.find("red bicycle")[0] == "bike"
    assert shelf.find("red ceramic coffee handle")[0] == "mug"
    assert set(shelf.find("red bicycle")) == {"mug", "cup", "bike"}
    assert shelf.find("red cup", limit=1) == ["cup"]


def test_ranks_fall_and_are_above_zero(shelf) -> None:
    with tenant_scope(shelf.party.id):
        ranks = [rank for _, rank in lexical.matching("red mug coffee", 10)]
    assert ranks == sorted(ranks, reverse=True)
    assert len(ranks) == 3 and min(ranks) > 0


def test_more_of_a_word_and_shorter_texts_rank_higher(party) -> None:
    library = Library(party, twice="tea pot tea cup", once="tea pot milk cup", long="tea " + "pot " * 200)
    library.put("padded", "tea " + " ".join(f"w{n}" for n in range(200)))
    found = library.find("tea")
    assert found[0] == "twice"
    assert found.index("once") < found.index("padded")


def test_content_outranks_metadata_and_both_are_found(party) -> None:
    library = Library(party, other="nothing of it")
    library.put("told", "A kettle on the stove", "steel")
    library.put("tagged", "Steel thing upright now", "kettle")
    assert library.find("kettle") == ["told", "tagged"]
    assert library.find("steel") == ["tagged", "told"]


def test_an_entry_is_replaced_whole_or_only_its_metadata(party) -> None:
    library = Library(party)
    library.put("one", "kettle 茶壶", "steel")
    library.put("one", "teapot 茶壶", "copper")
    assert [library.find(word) for word in ("kettle", "steel", "teapot", "copper")] == [
        [],
        [],
        ["one"],
        ["one"],
    ]
    with tenant_scope(party.id):
        missing = uuid.uuid4()
        assert lexical.index_fields([(library.ids["one"], "tin"), (missing, "tin")]) == [library.ids["one"]]
        assert lexical.index_fields([]) == []
    found = {word: library.find(word) for word in ("copper", "tin", "teapot", "茶壶", "壶")}
    assert found == {"copper": [], "tin": ["one"], "teapot": ["one"], "茶壶": ["one"], "壶": ["one"]}


def test_what_is_removed_is_not_found(shelf) -> None:
    with tenant_scope(shelf.party.id):
        lexical.remove_texts([shelf.ids["mug"], shelf.ids["fire"]])
        assert LexicalEntry.objects.count() == 3
    assert shelf.find("red") and shelf.find("ceramic") == [] and shelf.find("消防车") == []


def test_a_deleted_asset_leaves_no_entry(party) -> None:
    with tenant_scope(party.id):
        asset = add_asset(dataset_id=create_dataset(name="d").id, text="xyzzy").asset
        lexical.index_texts([Entry(asset.id, asset.dataset_id, "text", "xyzzy")])
        delete_asset(asset_id=asset.id)
        assert (lexical.matching("xyzzy", 1), LexicalEntry.objects.count()) == ([], 0)


def test_a_search_can_be_restricted(party, shelf) -> None:
    other = Library(party, mug="another red ceramic mug")
    other.put("photo", "red ceramic photo", modality="image")
    found = other.find("ceramic", datasets=[other.dataset.id])
    assert set(found) == {"mug", "photo"}
    assert shelf.find("ceramic", hidden_datasets=[other.dataset.id]) == ["mug"]
    assert other.find("ceramic", datasets=[other.dataset.id], modalities=["image"]) == ["photo"]
    assert other.find("ceramic", assets=[other.ids["mug"], shelf.ids["cup"]]) == ["mug"]
    assert other.find("ceramic", assets=[]) == [] == other.find("ceramic", datasets=[])


def test_a_long_list_of_assets_is_looked_through_afterwards(shelf, monkeypatch) -> None:
    monkeypatch.setattr(lexical, "MAX_ALLOWED", 1)
    assert shelf.find("red", assets=[shelf.ids["cup"], shelf.ids["cat"]]) == ["cup"]
    assert len(shelf.find("red", assets=list(shelf.ids.values()), limit=2)) == 2


def test_the_same_batch_twice_is_no_error(shelf) -> None:
    entry = Entry(shelf.ids["mug"], shelf.dataset.id, "text", "enamel")
    with tenant_scope(shelf.party.id):
        lexical.index_texts([entry, entry])
        lexical.index_texts([])
    assert shelf.find("enamel") == ["mug"]


def test_words_of_metadata_are_those_of_text_and_tags() -> None:
    schema = {key: {"type": key} for key in ("text", "number", "time", "tags", "bool")}
    given = {
        "text": "one",
        "tags": ["two", "three"],
        "time": "2026-01-01",
        "number": 4,
        "bool": True,
        "new": "five",
    }
    assert lexical.words_of(given, schema) == "one\ntwo\nthree\nfive"


# --- Other tenants ---------------------------------------------------------------------------------------


def test_another_tenants_words_are_not_found(party, stranger) -> None:
    mine, theirs = Library(party, **SHELF), Library(stranger, **SHELF, secret="xyzzy plugh")
    assert mine.find("xyzzy") == []
    assert mine.find("red bicycle")[0] == "bike"
    with tenant_scope(party.id):
        everything = {asset_id for asset_id, _ in lexical.matching("red ceramic 红色 bicycle xyzzy", 100)}
    assert everything <= set(mine.ids.values())
    assert theirs.find("xyzzy") == ["secret"]


def test_ranks_do_not_depend_on_other_tenants(party, make_party) -> None:
    mine = Library(party, **SHELF)
    with tenant_scope(party.id):
        before = lexical.matching("red mug", 10)
    Library(make_party(), **{f"n{n}": "red mug mug" for n in range(20)})
    with tenant_scope(party.id):
        assert lexical.matching("red mug", 10) == before
    assert mine.find("mug") == ["mug"]


def _call(queries: list[str], words: int = 1) -> list[tuple]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT asset_id FROM public.lexical_matches(%s::tsquery[], %s, NULL, 100, 100, NULL, NULL, NULL)",
            [queries, words],
        )
        return cursor.fetchall()


def test_the_function_gives_nothing_of_another_tenant_for_its_exact_lexeme(party, stranger) -> None:
    theirs = Library(stranger, secret="xyzzy")
    with tenant_scope(stranger.id):
        lexeme = f"'{lexical._prefix()}xyzzy'"
        assert _call([lexeme]) == [(theirs.ids["secret"],)]
    with tenant_scope(party.id):
        for query in (lexeme, f"!{lexeme}", f"{lexeme} | !'nothing'"):
            assert _call([query]) == []


def test_the_function_gives_nothing_outside_a_scope(party) -> None:
    library = Library(party, secret="xyzzy")
    with tenant_scope(party.id):
        lexeme = f"'{lexical._prefix()}xyzzy'"
    assert _call([lexeme]) == []
    with transaction.atomic():
        assert _call([lexeme]) == []
    with pytest.raises(NoTenantScope):
        lexical.matching("xyzzy", 1)
    assert library.find("xyzzy") == ["secret"]


def test_an_entry_cannot_be_written_for_another_tenant(party, stranger) -> None:
    theirs = Library(stranger, secret="xyzzy")
    with tenant_scope(party.id):
        with pytest.raises(DatabaseError), transaction.atomic():
            # The deferred reference (tenant, asset) is checked now.
            lexical.index_texts([Entry(theirs.ids["secret"], theirs.dataset.id, "text", "stolen")])
            with connection.cursor() as cursor:
                cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        lexical.remove_texts(list(theirs.ids.values()))
        assert lexical.index_fields([(theirs.ids["secret"], "stolen")]) == []
    assert theirs.find("xyzzy") == ["secret"]


def test_what_owns_the_function_can_do_nothing_else() -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT r.rolcanlogin, r.rolsuper, r.rolbypassrls, f.prosecdef, f.provolatile, f.proconfig::text,
                   pg_has_role(current_user, r.oid, 'MEMBER'), has_function_privilege('public', f.oid, 'EXECUTE')
            FROM pg_proc f JOIN pg_roles r ON r.oid = f.proowner WHERE f.proname = 'lexical_matches'
            """
        )
        assert cursor.fetchall() == [
            (
                *(False, False, True, True, "s"),
                '{"search_path=pg_catalog, pg_temp",plan_cache_mode=force_custom_plan,enable_seqscan=off}',
                *(False, False),
            )
        ]
        cursor.execute(
            """
            SELECT c.relname, p.privilege_type
            FROM pg_class c, aclexplode(c.relacl) p JOIN pg_roles r ON r.oid = p.grantee
            WHERE r.rolname = 'crosslight_lexical'
            """
        )
        assert cursor.fetchall() == [("lexical_entry", "SELECT")]


def test_the_search_path_of_a_caller_changes_nothing(party) -> None:
    library = Library(party, secret="xyzzy")
    with tenant_scope(party.id), connection.cursor() as cursor:
        cursor.execute("SELECT set_config('search_path', 'pg_temp', true)")
        found = _call([f"'{lexical._prefix()}xyzzy'"])
    assert found == [(library.ids["secret"],)]


def test_a_search_reads_the_gin_index_and_no_other_tenants_rows(party, stranger) -> None:
    mine = Library(party, **{f"n{n}": f"red thing number{n}" for n in range(30)})
    Library(stranger, **{f"n{n}": f"red thing number{n}" for n in range(30)})
    with tenant_scope(party.id), connection.cursor() as cursor:
        before = _scans(cursor)
        assert [asset_id for asset_id, _ in lexical.matching("number7", 10)] == [mine.ids["n7"]]
        after = _scans(cursor)
    # One look into the index, which fetched one row of the table.
    assert [one - other for one, other in zip(after, before, strict=True)] == [1, 0, 1]


def _scans(cursor) -> tuple[int, int, int]:
    """Of this transaction: scans of the GIN index, scans of the whole table, rows fetched by index."""
    cursor.execute(
        "SELECT pg_stat_get_xact_numscans('lexical_entry_words'::regclass), "
        "pg_stat_get_xact_numscans('lexical_entry'::regclass), "
        "pg_stat_get_xact_tuples_fetched('lexical_entry'::regclass)"
    )
    return cursor.fetchone()


# --- Fusion ----------------------------------------------------------------------------------------------


def test_reciprocal_ranks_are_summed() -> None:
    a, b, c, d = (uuid.UUID(int=n) for n in range(4))
    assert lexical.fuse([a, b, c], [c, d]) == [
        (c, 1 / 63 + 1 / 61),
        (a, 1 / 61),
        (b, 1 / 62),
        (d, 1 / 62),
    ]
    assert lexical.fuse([a, b], [b, a], k=1) == [(a, 1 / 2 + 1 / 3), (b, 1 / 3 + 1 / 2)]
    assert lexical.fuse([a], []) == [(a, 1 / 61)]
    assert lexical.fuse([], []) == [] == lexical.fuse()

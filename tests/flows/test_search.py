"""The main job on the running stack: put things in, find them by words, picture and voice, take them out."""

from __future__ import annotations

import json
import time

import pytest
import requests

from standalone.config import DEMO_FILES
from tests.flows.client import Client
from tests.flows.pictures import huge_png, jpeg, with_location
from tests.ranks import clearly_first, first

pytestmark = pytest.mark.stack
GROCERY = DEMO_FILES / "grocery"
SPOKEN = DEMO_FILES / "spoken" / "yellow-bananas.wav"


def _labels(answer: dict, count: int = 5) -> list[str]:
    """Of the first five of twenty results, whatever the processor."""
    return [result["asset"]["metadata"].get("label", "") for result in first(answer["results"], count)]


def test_words_find_products(shop) -> None:
    assert "Banana" in _labels(shop.search(text="yellow bananas", top_k=20))
    assert any("Juice" in label for label in _labels(shop.search(text="a carton of orange juice", top_k=20)))


def test_words_find_pictures_without_a_caption(stack, shop) -> None:
    photos = next(t for t in stack.demo["tenants"] if t["slug"] == "grocery")["datasets"]["shelf photos"]
    answer = shop.search(text="bananas", datasets=[photos], top_k=20)
    assert "Banana" in _labels(answer)
    assert {result["matched"]["modality"] for result in answer["results"]} == {"image"}


def test_a_picture_finds_itself_and_its_like(shop) -> None:
    photo = (GROCERY / "train_banana_001.jpg").read_bytes()
    answer = shop.json("POST", "/search", files={"image": ("x.bin", photo)}, data={"top_k": "20"})
    assert "Banana" in _labels(answer, 1)
    assert answer["weights"] == {"image": 1.0}
    asset = answer["results"][0]["asset"]["id"]
    assert shop.search(image={"asset": asset}, top_k=1)["results"][0]["asset"]["id"] == asset


def test_a_voice_is_heard_and_answered(shop) -> None:
    answer = shop.json(
        "POST", "/search", files={"audio": ("q.wav", SPOKEN.read_bytes())}, data={"top_k": "20"}
    )
    assert "yellow banana" in answer["transcript"].lower()
    assert "Banana" in _labels(answer)


def test_parts_mix_with_weights(shop) -> None:
    photo = (GROCERY / "banana_iconic.jpg").read_bytes()
    fields = {"text": "a red tomato", "weights": json.dumps({"text": 3, "image": 1})}
    answer = shop.json("POST", "/search", files={"image": ("x", photo)}, data=fields)
    assert answer["weights"] == {"text": 0.75, "image": 0.25}


def axis(client) -> list[float]:
    """The first axis of the space that answers."""
    return [1.0] + [0.0] * (client.search(text="anything", top_k=1)["model"]["dimension"] - 1)


def test_a_vector_finds_its_neighbours(shop) -> None:
    answer = shop.search(vector=axis(shop), top_k=3)
    assert (len(answer["results"]), answer["cache"]) == (3, "bypass")
    scores = [result["score"] for result in answer["results"]]
    assert scores == sorted(scores, reverse=True)


def test_filters_and_modalities(stack, shop) -> None:
    answer = shop.search(text="milk", filter={"aisle": "dairy", "price": {"lt": 4}}, top_k=200)
    assert answer["total_candidates"] == len(answer["results"]) > 0
    assert all(r["asset"]["metadata"]["aisle"] == "dairy" for r in answer["results"])
    assert all(r["asset"]["metadata"]["price"] < 4 for r in answer["results"])
    demo = next(tenant for tenant in stack.demo["tenants"] if tenant["slug"] == "grocery")["datasets"]
    assert shop.search(text="milk", modalities=["text"], datasets=[*demo.values()])["results"] == []


def test_pages_do_not_overlap_and_end(shop) -> None:
    first = shop.search(text="fruit", top_k=100)
    seen, cursor = [r["asset"]["id"] for r in first["results"]], first["next"]
    while cursor:
        page = shop.search(cursor=cursor, top_k=100)
        seen += [r["asset"]["id"] for r in page["results"]]
        cursor = page["next"]
    assert len(seen) == len(set(seen)) == first["total_candidates"]


def test_the_second_equal_query_is_a_hit(shop) -> None:
    text = f"a query that nobody sent before {time.time_ns()}"
    assert [shop.search(text=text)["cache"] for _ in range(2)] == ["miss", "hit"]


def test_none_one_and_two_assets(client) -> None:
    assert client.search(text="anything") | {"took_ms": 0, "search_id": ""} == {
        "search_id": "",
        "results": [],
        "next": None,
        "total_candidates": 0,
        "weights": {"text": 1.0},
        "model": client.search(text="anything")["model"],
        "index": {"generation": "0", "kind": "flat", "size": 0, "recall_estimate": 1.0},
        "cache": "miss",
        "relevance_line": 0.6,
        "relevance_corrected": False,
        "took_ms": 0,
    }
    dataset = client.dataset("few")
    invoice = client.put(dataset, text="the invoice is paid within thirty days")
    assert client.found(text="when do I pay the bill?") == [invoice["id"]]
    dog = client.put(dataset, text="our office dog is called Bruno")
    results = client.search(text="what is the name of the dog?")["results"]
    assert {result["asset"]["id"] for result in results} == {invoice["id"], dog["id"]}
    assert clearly_first(results)["asset"]["id"] == dog["id"]


def test_a_caption_is_found_and_changes(client) -> None:
    dataset = client.dataset("captions")
    asset = client.put(dataset, jpeg(1), text="the lighthouse of the northern harbour")
    other = client.put(dataset, text="a recipe for onion soup")
    assert client.found(text="lighthouse at a harbour", top_k=1) == [asset["id"]]
    job = client.json("PATCH", f"/assets/{asset['id']}", 202, json={"caption": "a bicycle in the rain"})[
        "job"
    ]
    assert client.wait(job)["state"] == "succeeded"
    answer = client.search(text="bicycle in the rain", top_k=1)["results"][0]
    assert (answer["asset"]["id"], answer["matched"]["modality"]) == (asset["id"], "text")
    assert client.found(text="a recipe for onion soup", top_k=1) == [other["id"]]


def test_what_is_deleted_never_comes_back(client) -> None:
    dataset = client.dataset("gone")
    asset = client.put(dataset, jpeg(2), text="a very particular teapot")
    page = client.search(text="teapot")
    assert [r["asset"]["id"] for r in page["results"]] == [asset["id"]]
    client.json("DELETE", f"/assets/{asset['id']}", 204)
    for query in ({"text": "teapot"}, {"vector": axis(client)}):
        assert client.found(**query) == []
    for path in ("", "/content", "/thumbnail"):
        assert client.request("GET", f"/assets/{asset['id']}{path}").status_code == 404


def test_a_deleted_dataset_is_gone_at_once(client) -> None:
    dataset = client.dataset("whole")
    asset = client.put(dataset, text="a very particular teapot")
    job = client.json("DELETE", f"/datasets/{dataset}", 202)["job"]
    assert client.found(text="teapot") == []
    assert client.request("GET", f"/assets/{asset['id']}").status_code == 404
    assert client.wait(job)["state"] == "succeeded"
    assert client.json("GET", "/me")["quotas"]["assets"]["used"] == 0


def test_tenants_see_only_their_own(shop, clinic, client) -> None:
    mine = client.put(client.dataset("mine"), text="a banana of my own")
    assert mine["id"] not in shop.found(text="a banana of my own", top_k=200)
    assert client.found(text="yellow bananas", top_k=200) == [mine["id"]]
    theirs = shop.search(text="banana", top_k=1)["results"][0]["asset"]
    for path in (
        f"/assets/{theirs['id']}",
        f"/assets/{theirs['id']}/content",
        f"/datasets/{theirs['dataset']}",
    ):
        assert client.request("GET", path).status_code == 404
    assert client.request("POST", "/search", json={"image": {"asset": theirs["id"]}}).status_code == 404
    assert (
        client.request("POST", "/search", json={"text": "x", "datasets": [theirs["dataset"]]}).status_code
        == 404
    )
    assert "radiology" in {d["name"] for d in clinic.json("GET", "/datasets")["results"]}


def test_a_cursor_of_another_tenant_is_of_no_use(shop, client) -> None:
    cursor = shop.search(text="fruit", top_k=1)["next"]
    assert client.request("POST", "/search", json={"cursor": cursor}).status_code == 410


def test_location_is_never_served_and_orientation_is_honoured(client) -> None:
    original = with_location(3)
    assert b"Exif" in original
    asset = client.put(client.dataset("places"), original)
    assert (asset["width"], asset["height"]) == (40, 80)
    served = client.request("GET", f"/assets/{asset['id']}/content")
    assert served.status_code == 200
    assert b"Exif" not in served.content
    thumbnail = client.request("GET", f"/assets/{asset['id']}/thumbnail")
    assert thumbnail.headers["Content-Type"] == "image/jpeg"
    assert b"EXIF" not in thumbnail.content


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (jpeg(4)[:400], "corrupt"),
        (b"\x89PNG\r\n\x1a\n" + b"\x00" * 50, "corrupt"),
        (huge_png(50_000, 50_000), "too-large"),
    ],
    ids=["truncated", "nonsense", "bomb"],
)
def test_a_picture_that_cannot_be_read_fails_with_its_reason(client, content, code) -> None:
    answer = client.upload(client.dataset("bad"), content)
    job = client.wait(answer["job"])
    assert (job["state"], job["error"]["type"], job["attempts"]) == ("failed", code, 1)
    asset = client.json("GET", f"/assets/{answer['asset']['id']}")
    assert (asset["status"], asset["error"]["type"]) == ("failed", code)
    assert client.request("GET", f"/assets/{asset['id']}/content").status_code == 409
    assert client.search(text="anything")["results"] == []


def test_waiting_for_an_upload_answers_with_the_finished_asset(client) -> None:
    answer = client.json(
        "POST",
        f"/datasets/{client.dataset('wait')}/assets",
        200,
        headers={"Prefer": "wait=30"},
        json={"text": "patience"},
    )
    assert (answer["asset"]["status"], answer["job"]["state"]) == ("ready", "succeeded")
    assert client.found(text="patience") == [answer["asset"]["id"]]


def test_events_follow_a_job_to_its_end(client) -> None:
    answer = client.upload(client.dataset("events"), jpeg(5, 900))
    url = f"{client.base_url}/api/v1/jobs/{answer['job']['id']}/events"
    states = []
    with requests.get(
        url, headers={"Authorization": f"Bearer {client.token}"}, stream=True, timeout=30
    ) as stream:
        assert stream.headers["Content-Type"].startswith("text/event-stream")
        for line in stream.iter_lines():
            if line.startswith(b"data: "):
                states.append(json.loads(line[6:])["state"])
    assert states[-1] == "succeeded"


def test_nothing_at_an_address_is_told_for_every_method(client) -> None:
    for method in ("GET", "POST", "PUT", "DELETE"):
        for path in ("/nothing", "/datasets/", "/generation"):
            answer = client.request(method, path, json={})
            assert (answer.status_code, answer.headers["Content-Type"]) == (404, "application/problem+json")


def test_the_demo_keeps_its_secrets_to_itself(stack) -> None:
    path = stack.data_dir / "demo.json"
    assert path.stat().st_mode & 0o777 == 0o600
    assert {tenant["slug"] for tenant in stack.demo["tenants"]} == {"grocery", "clinic"}


def test_the_web_process_loads_no_torch(stack) -> None:
    """Read off the running process, after it has encoded words, pictures and speech."""
    pid = stack.pid("web")
    import psutil

    family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    mapped = {m.path for process in family for m in process.memory_maps()}
    assert any("onnxruntime" in path for path in mapped)
    assert not [path for path in mapped if "/torch/" in path]


def test_clients_in_parallel_get_consistent_answers(client) -> None:
    """Uploads and searches at once: everything that a job said is done is found."""
    from concurrent.futures import ThreadPoolExecutor

    dataset = client.dataset("parallel")

    def put_and_find(number: int) -> bool:
        own = Client(client.base_url, client.token)
        asset = own.put(dataset, text=f"document number {number} about topic {number * 7919}")
        return asset["id"] in own.found(
            text=f"document number {number} about topic {number * 7919}", top_k=50
        )

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(put_and_find, range(30)))

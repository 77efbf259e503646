import json

from openai.types import Model

from gateway.core.models import ModelInfo
from gateway.dialects import openai_models


def test_a_model_of_which_little_is_known_has_openais_four_fields_and_anthropics() -> None:
    document = json.loads(openai_models.single(ModelInfo(id="llama3.2")))
    assert document == {
        "id": "llama3.2",
        "object": "model",
        "created": 0,
        "owned_by": "gateway",
        "type": "model",
        "display_name": "llama3.2",
        "created_at": "1970-01-01T00:00:00Z",
    }
    Model.model_validate(document)


def test_what_the_engine_knows_is_shown() -> None:
    model = ModelInfo(
        id="smollm2:135m",
        created=1_700_000_000,
        owned_by="library",
        context_length=4096,
        context_length_max=8192,
        loaded=False,
        size_bytes=91_000_000,
        capabilities=("completion", "tools"),
        alias_of="smollm2:latest",
    )
    document = json.loads(openai_models.single(model))
    Model.model_validate(document)
    assert document["created"] == 1_700_000_000
    assert document["context_length"] == 4096
    assert document["context_length_max"] == 8192
    assert document["loaded"] is False
    assert document["size_bytes"] == 91_000_000
    assert document["alias_of"] == "smollm2:latest"
    assert document["capabilities"] == ["completion", "tools"]


def test_the_list_keeps_its_order() -> None:
    document = json.loads(openai_models.listing([ModelInfo(id="b"), ModelInfo(id="a")]))
    assert document["object"] == "list"
    assert [Model.model_validate(card).id for card in document["data"]] == ["b", "a"]
    assert (document["first_id"], document["last_id"], document["has_more"]) == ("b", "a", False)


def test_no_model_is_an_empty_list() -> None:
    assert json.loads(openai_models.listing([])) == {
        "object": "list",
        "data": [],
        "has_more": False,
        "first_id": None,
        "last_id": None,
    }

"""What a model makes of texts: every one, in order, on any number of devices, and once."""

import numpy as np
import pytest

from jaxvision.evals import texts
from jaxvision.evals.store import Store

WORDS = [f"text {i}" for i in range(texts.BATCH + 19)]


@pytest.mark.parametrize("devices", [1, 8])
@pytest.mark.parametrize("n", [1, 13, len(WORDS)])
def test_every_text_in_order(pairs, mesh, devices, n):
    run = texts.make_embedder(task=pairs.Towers(), texts=texts.find_texts(pairs.HOST), mesh=mesh(devices))
    embeddings = run(pairs.VARIABLES, WORDS[:n])
    assert embeddings.dtype == np.float32
    np.testing.assert_allclose(embeddings, [pairs.text_embedding(word) for word in WORDS[:n]], rtol=1e-4, atol=1e-6)


def test_texts_are_embedded_once_for_the_same_variables(pairs, mesh, monkeypatch):
    """So evaluations of several sets with the same classes share one pass of the text tower."""
    passes = []
    computed = texts.computed
    monkeypatch.setattr(texts, "computed", lambda results: passes.append(1) or computed(results))
    run = texts.make_embedder(task=pairs.Towers(), texts=texts.find_texts(pairs.HOST), mesh=mesh(1), store=Store())
    first = run(pairs.VARIABLES, WORDS[:5])
    np.testing.assert_array_equal(run(pairs.VARIABLES, WORDS[:5]), first)
    assert len(passes) == 1
    run(pairs.VARIABLES, WORDS[:6])
    run(2 * pairs.VARIABLES, WORDS[:5])
    assert len(passes) == 3


def test_the_tokenizer_is_that_of_the_first_host_spec_that_has_one(pairs):
    operation = texts.find_texts(None, "decode", "decode|tokenize('bytes', 9, lower=True, field='caption')", pairs.HOST)
    assert operation.tokenizer.length == 9
    assert operation.tokenizer("A").tolist() == operation.tokenizer("a").tolist()
    assert operation.field == "caption"
    assert texts.find_texts("decode", None) is None

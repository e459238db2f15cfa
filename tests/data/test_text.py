import gzip
import json
import pickle
import random
import sys

import numpy as np
import pytest

from jaxvision.data import host_ops, text, train_batches
from jaxvision.data.sources.base import BadExample
from jaxvision.errors import UserError


@pytest.fixture(scope="module")
def clip(shared):
    pytest.importorskip("ftfy")
    pytest.importorskip("regex")
    return text.make_tokenizer("clip", path=shared("clip/bpe_simple_vocab_16e6.txt.gz"))


def test_clip_gives_the_ids_of_the_original(clip, shared):
    reference = json.loads(shared("clip_tokens.json").read_text())
    assert (clip.vocabulary, clip.start, clip.end) == tuple(reference[k] for k in ("vocabulary", "start", "end"))
    with gzip.open(shared("coco256/captions_text_only.jsonl.gz"), "rt", encoding="utf-8") as lines:
        captions = [caption for line in lines for caption in json.loads(line)["captions"]]
    expected = dict(zip(captions[:2000], reference["captions_ids"], strict=True))
    expected |= {case["text"]: case["ids"] for case in reference["edge_cases"]}
    for caption, ids in expected.items():
        assert clip.encode(caption) == ids, caption


def test_clip_pads_with_zeros_and_keeps_the_end_of_a_long_text(clip):
    ids, mask = clip.with_mask(["cat !~#", "cat " * 200])
    assert ids.shape == mask.shape == (2, 77)
    assert (ids.dtype, mask.dtype) == (np.int32, bool)
    assert ids[0, :8].tolist() == [49406, 2368, 0, 93, 258, 49407, 0, 0]
    assert mask.sum(axis=1).tolist() == [6, 77]  # the "!" is a token although its id is that of the padding
    assert ids[1, -1] == 49407


def test_clip_splits_words_as_python_does(clip):
    a, b = clip.encode("a b")[1:3]
    first, *zero_width, last = clip.encode("a\u200bb")[1:-1]  # a space to other libraries, a word to Python's
    assert (first, last, len(zero_width)) == (a, b, 1)
    assert clip.encode("<|EndOfText|>") == [49406, 49407, 49407]


def test_clip_reads_an_unpacked_vocabulary_and_refuses_another(clip, shared, tmp_path):
    plain = tmp_path / "vocabulary.txt"
    plain.write_bytes(gzip.decompress(shared("clip/bpe_simple_vocab_16e6.txt.gz").read_bytes()))
    assert text.make_tokenizer("clip", path=plain).encode("two dogs") == clip.encode("two dogs")
    plain.write_text("version\na b\n")
    with pytest.raises(UserError, match="not CLIP's vocabulary"):
        text.make_tokenizer("clip", path=plain)
    with pytest.raises(UserError, match="broken.gz is not a gzip file, although"):
        text.make_tokenizer("clip", path=_written(tmp_path / "broken.gz", "no gzip"))
    packed = bytearray(shared("clip/bpe_simple_vocab_16e6.txt.gz").read_bytes())
    packed[-8] ^= 1  # of the checksum
    (tmp_path / "bitten.gz").write_bytes(packed)
    with pytest.raises(UserError, match="bitten.gz is damaged: its content does not match its checksum"):
        text.make_tokenizer("clip", path=str(tmp_path / "bitten.gz"))
    (tmp_path / "cut.gz").write_bytes(packed[:1000])
    with pytest.raises(UserError, match="cut.gz is truncated"):
        text.make_tokenizer("clip", path=str(tmp_path / "cut.gz"))


def test_bytes_hold_every_text():
    tokenizer = text.make_tokenizer("bytes", length=400)
    rng = random.Random(0)
    for _ in range(20):
        caption = "".join(chr(rng.choice([65, 0x20AC, 0x1F600]) + rng.randrange(20)) for _ in range(50))
        ids, mask = (rows[0] for rows in tokenizer.with_mask(caption))
        assert bytes((ids[mask][1:-1] - 3).astype(np.uint8)).decode() == caption
        assert (ids[0], ids[mask][-1]) == (tokenizer.start, tokenizer.end)
        assert (ids[~mask] == tokenizer.pad).all()
    assert tokenizer.vocabulary == 259


def _sentences(n=300):
    rng = random.Random(1)
    words = ["a", "photo", "of", "the", "red", "blue", "green", "cat", "dog", "bird", "house", "near", "under", "small"]
    return [" ".join(rng.choices(words, k=8)) for _ in range(n)]


@pytest.fixture(scope="module")
def sentencepiece_model(tmp_path_factory):
    sentencepiece = pytest.importorskip("sentencepiece")
    prefix = tmp_path_factory.mktemp("sentencepiece") / "tiny"
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(_sentences()),
        model_prefix=str(prefix),
        vocab_size=34,
        bos_id=-1,
        eos_id=1,
        unk_id=2,
        pad_id=0,
        minloglevel=2,
    )
    return prefix.with_suffix(".model")


def test_sentencepiece_gives_the_ids_of_the_library(sentencepiece_model):
    import sentencepiece

    library = sentencepiece.SentencePieceProcessor(model_file=str(sentencepiece_model))
    tokenizer = text.make_tokenizer("sentencepiece", 16, path=sentencepiece_model)
    assert (tokenizer.vocabulary, tokenizer.start, tokenizer.end, tokenizer.pad) == (34, None, 1, 0)
    for caption in _sentences(20):
        ids = library.encode(caption)
        assert tokenizer.encode(caption) == ids[:15] + [1]
    short = tokenizer("red cat")[0].tolist()
    assert short == [*library.encode("red cat"), 1] + [0] * (15 - len(library.encode("red cat")))
    assert text.make_tokenizer("sentencepiece", 16, path=sentencepiece_model, pad=1)("a")[0, -1] == 1
    assert text.make_tokenizer("sentencepiece", path=sentencepiece_model, lower=True).encode("RED") == tokenizer.encode(
        "red"
    )


@pytest.fixture(scope="module")
def tokenizer_json(tmp_path_factory):
    tokenizers = pytest.importorskip("tokenizers")
    special = ["[PAD]", "[CLS]", "[SEP]", "[UNK]"]
    vocabulary = {w: i for i, w in enumerate([*special, *sorted(set(" ".join(_sentences()).split()))])}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="[UNK]"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    path = tmp_path_factory.mktemp("huggingface") / "tokenizer.json"
    made.save(str(path))
    return path


def test_huggingface_keeps_the_special_tokens_of_its_file(tokenizer_json):
    vocabulary = json.loads(tokenizer_json.read_text())["model"]["vocab"]
    tokenizer = text.make_tokenizer("huggingface", 6, path=tokenizer_json)
    assert (tokenizer.vocabulary, tokenizer.start, tokenizer.end, tokenizer.pad) == (len(vocabulary), 1, 2, 0)
    ids, mask = tokenizer.with_mask(["red cat", "a red cat near a dog", "RED cat"])
    red, cat = vocabulary["red"], vocabulary["cat"]
    assert ids[0].tolist() == [1, red, cat, 2, 0, 0]
    assert ids[1].tolist() == [1, vocabulary["a"], red, cat, vocabulary["near"], 2]
    assert ids[2].tolist() == [1, 3, cat, 2, 0, 0]
    assert mask.sum(axis=1).tolist() == [4, 6, 4]
    assert (
        text.make_tokenizer("huggingface", 6, path=tokenizer_json, lower=True)("RED cat")[0].tolist() == ids[0].tolist()
    )


def test_tokenizers_can_be_pickled(sentencepiece_model, tokenizer_json, request):
    made = [
        text.make_tokenizer("bytes"),
        text.make_tokenizer("sentencepiece", path=sentencepiece_model),
        text.make_tokenizer("huggingface", path=tokenizer_json),
    ]
    for tokenizer in made:
        copy = pickle.loads(pickle.dumps(tokenizer))
        np.testing.assert_array_equal(copy("a red cat"), tokenizer("a red cat"))


def test_clip_can_be_pickled(clip):
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(clip))("a red cat"), clip("a red cat"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(name="byte"), "unknown tokenizer 'byte'; did you mean 'bytes'"),
        (dict(name="clip"), "'clip' needs path"),
        (dict(name="bytes", path="x"), "reads no file"),
        (dict(name="bytes", length=2), "at least 3"),
        (dict(name="bytes", pad=259), "id below 259"),
        (dict(name="clip", path="absent.gz"), "no tokenizer file absent.gz"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(UserError, match=message):
        text.make_tokenizer(**arguments)


def _written(path, content):
    path.write_text(content)
    return path


@pytest.mark.parametrize(("name", "module"), [("sentencepiece", "sentencepiece"), ("huggingface", "tokenizers")])
def test_a_file_that_is_something_else(name, module, tmp_path):
    pytest.importorskip(module)
    with pytest.raises(UserError, match=r"words.txt is not a"):
        text.make_tokenizer(name, path=_written(tmp_path / "words.txt", "words"))


def test_a_missing_library_is_named_with_the_way_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    with pytest.raises(UserError, match=r"needs the library sentencepiece: pip install 'jaxvision\[text\]'"):
        text.make_tokenizer("sentencepiece", path=_written(tmp_path / "a.model", ""))


def _tokens(spec, example, seed=0):
    return host_ops.make_chain(spec)(example, np.random.default_rng(seed))


def test_tokenize_adds_tokens_and_their_mask():
    example = _tokens("tokenize(length=6)", {"text": "ab", "label": 3})
    assert example["tokens"].tolist() == [1, 100, 101, 2, 0, 0]
    assert example["tokens_mask"].tolist() == [True] * 4 + [False] * 2
    assert (example["label"], example["text"], example["tokens"].dtype) == (3, "ab", np.int32)


@pytest.mark.parametrize("captions", [("a", "b", "c"), ["a", "b", "c"], np.array([b"a", b"b", b"c"], object)])
def test_tokenize_draws_a_caption_in_training_and_takes_the_first_in_evaluation(captions):
    spec = "tokenize('bytes', 3, field='captions')"
    drawn = [_tokens(spec, {"captions": captions}, seed)["tokens"][1] for seed in range(300)]
    counts = np.bincount(drawn)[100:103]
    assert counts.sum() == 300
    assert (np.abs(counts - 100) < 40).all()
    evaluation = host_ops.host_ops.evaluation(spec)
    assert {_tokens(evaluation, {"captions": captions}, seed)["tokens"][1] for seed in range(20)} == {100}


def test_tokenize_reads_bytes_as_utf8():
    assert _tokens("tokenize", {"text": "é".encode()})["tokens"][:4].tolist() == [1, 0xC3 + 3, 0xA9 + 3, 2]


def test_tokenize_errors():
    with pytest.raises(UserError, match="unknown text field 'captoin'; did you mean 'caption'"):
        _tokens("tokenize(field='captoin')", {"caption": "a"})
    with pytest.raises(BadExample, match="its field 'text' holds 3, which is not a text"):
        _tokens("tokenize", {"text": 3})
    for empty in ((), "", ("", " ")):
        with pytest.raises(BadExample, match="no caption"):
            _tokens("tokenize", {"text": empty})
    with pytest.raises(UserError, match="unknown choice of caption 'last'"):
        host_ops.make_chain("tokenize(caption='last')")


def test_captions_of_a_step_do_not_depend_on_threads(pictures):
    class Captioned(type(pictures)):
        def __getitem__(self, index):
            return {**super().__getitem__(index), "text": tuple(f"{index} {i}" for i in range(5))}

    source, fields = Captioned(pictures.images), ("tokens", "tokens_mask")
    streams = [
        list(
            train_batches(
                source, "tokenize(length=8)", batch_size=4, seed=1, start=start, stop=9, fields=fields, threads=threads
            )
        )
        for start, threads in ((0, 1), (0, 16), (5, 2))
    ]
    for one, other in [*zip(*streams[:2], strict=True), *zip(streams[0][5:], streams[2], strict=True)]:
        np.testing.assert_array_equal(one["tokens"], other["tokens"])
    assert one["tokens"].shape == one["tokens_mask"].shape == (4, 8)
    drawn = {bytes((row[row > 3] - 3).tolist()).decode().split()[1] for batch in streams[0] for row in batch["tokens"]}
    assert drawn == set("01234")

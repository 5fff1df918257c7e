import pytest
from tokenizers import pre_tokenizers

from dragoman_server.tokenization import TextCodec
from tests.unit.server import tiny

CODEC = TextCodec(tiny.train_tokenizer(), tags={"de": tiny.DE, "en": tiny.EN}, eos=tiny.EOS)


def test_source_is_tag_text_end() -> None:
    ids = CODEC.encode_source("The old harbour", "de")
    assert (ids[0], ids[-1]) == (tiny.DE, tiny.EOS)
    assert ids[1:-1] == CODEC.encode("The old harbour")
    assert CODEC.encode_source("", "en") == [tiny.EN, tiny.EOS]
    with pytest.raises(KeyError):
        CODEC.encode_source("The old harbour", "fr")


@pytest.mark.parametrize(
    "text", ["Der grüne Hafen", "a  b\tc\n", "漢字 🚲 \u200d", "</s>", "<2de> <s>x</s><pad>", "e\u0301", "\x00\x7f"]
)
def test_any_text_comes_back_and_never_turns_into_special_tokens(text: str) -> None:
    ids = CODEC.encode(text)
    assert min(ids) >= len(tiny.SPECIALS)
    assert CODEC.decode(ids) == text


def test_special_tokens_are_left_out_of_text() -> None:
    ids = CODEC.encode("old town")
    assert CODEC.decode([tiny.BOS, *ids, tiny.EOS, tiny.PAD]) == "old town"


def test_tokens_are_the_pieces_of_the_vocabulary() -> None:
    assert CODEC.tokens([tiny.DE, tiny.EOS, 10**6]) == ["<2de>", "</s>", ""]
    assert "".join(CODEC.tokens(CODEC.encode("a b"))) == "aĠb"


def test_no_piece_is_longer_than_the_longest() -> None:
    pieces = [piece for token_id in range(6, 300) for piece in CODEC.tokens([token_id])]
    assert CODEC.longest_token == max(map(len, pieces))
    assert CODEC.languages == ["de", "en"]


@pytest.mark.parametrize("spaced", [False, True])
def test_a_phrase_is_spelled_at_the_start_of_a_word_and_inside_one(spaced: bool) -> None:
    tokenizer = tiny.train_tokenizer()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=spaced)
    codec = TextCodec(tokenizer, tags={}, eos=tiny.EOS)
    for phrase in ("bicycle", "old town", "...", "über", "9", "\n", " x"):
        spellings = codec.spellings(phrase)
        assert len({tuple(ids) for ids in spellings}) == len(spellings)
        texts = {tokenizer.decode(ids) for ids in spellings}
        assert texts == {phrase, f" {phrase}"}

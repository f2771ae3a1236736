"""Vocab: known text survives encoding and decoding; unknown symbols become index 0."""

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from charlm.data.vocab import BLANK, BREAK, LETTER, OTHER, Vocab, code_points

patient = settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.too_slow])
KNOWN = "aé\n€\U0001f600\U0010ffff\x00\r\ufeff\ufffd"


@patient
@given(st.text())
@example("\ufeffone\r\ntwo\x00\U0001f600e\u0301\u2028")
@example("\ud800 is half a pair, \udfff the other half")
def test_known_text_is_unchanged_by_encoding_and_decoding(text):
    vocab = Vocab(map(ord, text))
    ids = vocab.encode(text)
    assert ids.all()
    assert len(ids) == len(text)
    assert vocab.decode(ids) == text


@patient
@given(st.text(alphabet=KNOWN), st.text(alphabet=KNOWN + "bß\u4e2d\U0001f601"))
def test_unknown_characters_decode_to_the_replacement_character(seen, text):
    vocab = Vocab(map(ord, seen))
    ids = vocab.encode(text)
    assert [index == 0 for index in ids] == [char not in seen for char in text]
    assert vocab.decode(ids) == "".join(char if char in seen else "\ufffd" for char in text)
    assert vocab.unknown(text) == "".join(sorted(set(text) - set(seen)))


@patient
@given(st.text())
@example("ä€\U0001f600\ufeff\r\n\x00")
def test_text_is_unchanged_by_encoding_and_decoding_its_bytes(text):
    vocab = Vocab.of_bytes()
    ids = vocab.encode(text)
    assert ids.tolist() == [byte + 1 for byte in text.encode("utf-8")]
    assert vocab.decode(ids) == text
    assert vocab.unknown(text) == ""


@patient
@given(st.binary())
@example(b"whole \xe2\x82\xac, cut off \xe2\x82")
def test_any_bytes_decode_as_python_decodes_them(data):
    vocab = Vocab.of_bytes()
    ids = vocab.encode_codepoints(np.frombuffer(data, np.uint8))
    assert ids.tolist() == [byte + 1 for byte in data]
    assert vocab.decode(ids) == data.decode("utf-8", "replace")


def test_index_zero_interrupts_a_character_of_several_bytes():
    start, middle, end = Vocab.of_bytes().encode("€").tolist()
    assert Vocab.of_bytes().decode([start, 0, middle, end, start, middle, end]) == "\ufffd" * 4 + "€"


def test_a_character_of_several_bytes_appears_with_its_last_byte():
    vocab = Vocab.of_bytes()
    decode_next = vocab.decoder()
    assert [decode_next(int(index)) for index in vocab.encode("é\U0001f600!")] == [
        "",
        "é",
        "",
        "",
        "",
        "\U0001f600",
        "!",
    ]


def test_decoders_of_one_vocabulary_are_independent():
    vocab = Vocab.of_bytes()
    first, second = vocab.decoder(), vocab.decoder()
    start, end = vocab.encode("é").tolist()
    assert first(start) == ""
    assert second(vocab.encode("x").tolist()[0]) == "x"
    assert first(end) == "é"


def test_indices_follow_the_order_of_the_symbols_from_one():
    vocab = Vocab(map(ord, "cabac\U0001f600"))
    assert vocab.encode("cab\U0001f600").tolist() == [1, 2, 3, 4]
    assert vocab.symbols == "cab\U0001f600"
    assert len(vocab) == 5


def test_the_empty_text_has_an_empty_vocabulary():
    vocab = Vocab(map(ord, ""))
    assert len(vocab) == 1
    assert vocab.encode("ab").tolist() == [0, 0]
    assert vocab.decode([]) == ""


@pytest.mark.parametrize(
    ("n_symbols", "dtype"), [(84, np.uint8), (255, np.uint8), (256, np.int16), (2**15 - 1, np.int16), (2**15, np.int32)]
)
def test_ids_have_the_smallest_type_for_the_largest_index(n_symbols, dtype):
    vocab = Vocab(range(n_symbols))
    ids = vocab.encode(vocab.symbols)
    assert ids.dtype == dtype
    assert ids.tolist() == list(range(1, n_symbols + 1))


def test_vocabularies_are_equal_if_their_symbols_are():
    assert Vocab([3, 1, 2, 1]) == Vocab([3, 1, 2]) == Vocab(map(ord, "\x03\x01\x02"))
    assert Vocab([3, 1, 2]) != Vocab([1, 2, 3])
    assert Vocab(map(ord, "ab")) != Vocab(map(ord, "abc"))
    assert Vocab(range(256)) != Vocab.of_bytes()
    assert Vocab(map(ord, "ab")) != "ab"


def test_a_vocabulary_is_not_hashable():
    with pytest.raises(TypeError):
        hash(Vocab(map(ord, "ab")))


@pytest.mark.parametrize(
    ("vocab", "bos_id"), [(Vocab(map(ord, "a\nb")), 2), (Vocab(map(ord, "ab")), 0), (Vocab.of_bytes(), 11)]
)
def test_bos_id_is_the_line_break_or_zero(vocab, bos_id):
    assert vocab.bos_id == bos_id


def test_code_points_are_those_of_python():
    assert code_points(KNOWN).tolist() == [ord(char) for char in KNOWN]


def test_char_classes_distinguish_letters_white_space_and_others():
    vocab = Vocab(map(ord, "aZ9é\n \t.-文"))
    char_classes = dict(zip("\ufffd" + vocab.symbols, vocab.char_classes.tolist(), strict=True))
    assert all(char_classes[char] == LETTER for char in "aZ9é文")
    assert all(char_classes[char] == BLANK for char in " \t")
    assert char_classes["\n"] == BREAK
    assert all(char_classes[char] == OTHER for char in ".-\ufffd")


def test_lower_is_the_lower_case_form_where_the_text_has_it():
    vocab = Vocab(map(ord, "aAbBÉéÖ-İ"))
    lower = dict(zip(vocab.symbols, (vocab.symbols[i - 1] for i in vocab.lower[1:].tolist()), strict=True))
    assert lower == {"a": "a", "A": "a", "b": "b", "B": "b", "É": "é", "é": "é", "Ö": "Ö", "-": "-", "İ": "İ"}
    assert vocab.lower[0] == 0
    of_bytes = Vocab.of_bytes().lower
    assert of_bytes[ord("Q") + 1] == ord("q") + 1 and of_bytes[0xC9 + 1] == 0xC9 + 1


def test_bytes_beyond_ascii_are_letters():
    char_classes = Vocab.of_bytes().char_classes
    assert {byte for byte in range(256) if char_classes[byte + 1] == LETTER} == {*b"09azAZ"} | set(range(128, 256)) | {
        byte for byte in range(128) if chr(byte).isalnum()
    }
    assert char_classes[0] == OTHER


@pytest.mark.parametrize("text", ["abc", "näme", "漢字 kanji", "\U0001f600!", "a\ud800b"])
def test_the_bytes_of_symbols_are_those_of_the_text(text):
    vocab, n_bytes = Vocab(map(ord, text)), len(text.encode("utf-8", "surrogatepass"))
    assert vocab.bytes_per_symbol(vocab.encode(text)) * len(text) == pytest.approx(n_bytes)
    assert Vocab.of_bytes().bytes_per_symbol(Vocab.of_bytes().encode(text)) == 1
    assert Vocab(map(ord, "xyz")).bytes_per_symbol(Vocab(map(ord, "xyz")).encode("ä")) == 1  # unknown

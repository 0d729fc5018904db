"""Which encoding a file is in, and where a file that is in none of them breaks."""

import codecs

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.tables_for_tests import TEXTS

from textassay.data import encoding
from textassay.data.encoding import find_encoding, shown
from textassay.errors import DataError

CHINESE = [
    "房间很干净，服务也不错。", "等了一个小时才上菜，再也不来了！", "书的内容一般，印刷还可以",
    "屏幕有坏点，客服说“不能换”。", "下雨天，他一个人坐在窗边。", "这部电影我看了三遍（真的）",
]  # fmt: skip
# Read as GB18030, German and Korean would be Chinese characters too.
OTHERS = {
    "cp1251": "Очень хороший фильм,да\nСкучно и слишком долго,нет\nПойду ещё раз,да\n",
    "cp1252": "Das Frühstück war großartig,gut\nNie wieder, völlig überteuert,schlecht\n",
    "cp1253": "Πολύ καλή ταινία,καλό\nΒαρετό και μεγάλο,κακό\n",
    "cp949": "정말 재미있는 영화였어요,좋음\n지루하고 너무 길다. 다시는 안 봐요,나쁨\n",
    "cp932": "この映画はとても面白かったです,良い\n二度と見たくない。つまらない,悪い\n",
    "big5": "這家飯店的服務真的很好。,好\n房間又小又舊，再也不來了。,壞\n",
}


def read(path):
    return path.read_bytes().decode(find_encoding(path).name)


@given(TEXTS.filter(lambda text: text and not text.startswith("\ufeff")))
def test_utf_8_is_read_without_a_note_with_or_without_a_mark(write, text):
    plain = write("plain.csv", text)
    assert find_encoding(plain) == ("utf-8", None, None)
    assert read(plain) == text
    marked = write("marked.csv", codecs.BOM_UTF8 + text.encode())
    assert find_encoding(marked) == ("utf-8-sig", None, None)
    assert read(marked) == text


@given(TEXTS.filter(bool), st.sampled_from(["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"]))
def test_wide_encodings_are_known_by_their_mark_and_said(write, text, name):
    path = write("wide.csv", ("\ufeff" + text).encode(name))
    assert read(path) == text
    assert find_encoding(path)[1] == f"read as {name[:6].upper()}"


@pytest.mark.parametrize("name", ["utf-16-le", "utf-16-be"])
def test_western_text_in_utf_16_is_known_without_a_mark(name, write):
    text = "text,label\nA fine film.,good\nNever again.,bad\n"
    path = write("wide.csv", text.encode(name))
    assert find_encoding(path)[:2] == (name, f"read as {name.upper()} (no byte-order mark)")
    assert read(path) == text


@given(st.lists(st.sampled_from(CHINESE), min_size=1, max_size=5))
@example(CHINESE * 20_000)
def test_chinese_files_of_the_national_standard_are_read_and_said(write, lines):
    text = "text,label\n" + "\n".join(lines)
    path = write("chinese.csv", text.encode("gb18030"))
    found = find_encoding(path)
    assert found.name == "gb18030" and "read as GB18030" in found.note
    assert read(path) == text


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("times", [1, 20])
def test_other_encodings_are_guessed_and_said(name, times, write):
    text = "text,label\n" + OTHERS[name] * times
    path = write("other.csv", text.encode(name))
    found = find_encoding(path)
    assert read(path) == text
    assert f"read as {shown(found.name)}, a guess" in found.note
    assert "--encoding" in found.note


@pytest.mark.parametrize("labels", [("好", "坏"), ("正面", "负面"), ("积极", "消极")])
def test_a_few_chinese_labels_beside_english_texts_are_enough(labels, write):
    text = "text,label\n" + "".join(f"A film of sorts,{label}\n" for label in labels * 10)
    path = write("labels.csv", text.encode("gb18030"))
    found = find_encoding(path)
    assert found.name == "gb18030" and "read as GB18030, a guess" in found.note
    assert found.doubt, "so few characters could be another page's, and a copy would keep them"
    assert read(path) == text


@pytest.mark.parametrize("line", ["Café à côté", "Das Frühstück", "fine – really 😀", *CHINESE])
def test_a_stray_byte_in_utf_8_is_no_reason_to_read_the_file_in_another_encoding(line, write):
    content = f"{line},x\n".encode() * 20 + b"caf\xe9,x\n" + f"{line},x\n".encode() * 20
    content += b"A film like any other.,x\n" * 200
    with pytest.raises(DataError, match=r"stray\.csv, line 21: is not valid UTF-8"):
        find_encoding(write("stray.csv", content))


@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8])
@pytest.mark.parametrize("before", [3, 70_000])
def test_a_broken_byte_is_named_with_its_line(mark, before, write):
    good = mark + "é好𝄞,x\n".encode() * before
    path = write("broken.csv", good + b"ab\xff\xfe\xfa\x80\n" + b"fine,x\n" * 3)
    with pytest.raises(DataError) as caught:
        find_encoding(path)
    assert f"broken.csv, line {before + 1}:" in str(caught.value)
    assert f"(byte {len(good) + 2})" in str(caught.value)


@given(st.integers(1, 12))
def test_a_character_on_the_border_of_two_reads_does_not_shift_the_place(chunk):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoding, "CHUNK", chunk)
        assert first_break_of("é好𝄞\n".encode()) is None
        assert first_break_of("é好𝄞".encode() + b"\xff\n") == 9
        assert first_break_of("é好".encode() + "𝄞".encode()[:3]) == 5


def first_break_of(content):
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.csv"
        path.write_bytes(content)
        return encoding._first_break(path, "utf-8")


@pytest.mark.parametrize("name", ["utf-16", "utf-16-le", "utf-32"])
def test_a_wide_file_that_breaks_off_in_a_character_is_refused(name, write):
    path = write("half.csv", "text,label\nfine,good\n".encode(name)[:-1])
    with pytest.raises(DataError, match=r"half\.csv, line 2: .*convert it to UTF-8"):
        find_encoding(path)


@pytest.mark.parametrize("head", list(encoding.MAGIC), ids=repr)
def test_files_that_are_not_text_are_called_what_they_are(head, write):
    path = write("a.csv", head + b"text,label\n")
    with pytest.raises(DataError, match="is not text but") as caught:
        find_encoding(path)
    assert encoding.MAGIC[head] in str(caught.value)


@pytest.mark.parametrize("text", ["SQLite is a database", "%PDF files are bad", "PKs and keys"])
def test_a_text_that_speaks_of_such_files_is_a_text(text, write):
    assert find_encoding(write("a.csv", text)) == ("utf-8", None, None)


def test_a_file_of_control_characters_is_refused(write):
    with pytest.raises(DataError, match="not a text file"):
        find_encoding(write("a.csv", b"text,label\n" + bytes(range(1, 9)) * 5))

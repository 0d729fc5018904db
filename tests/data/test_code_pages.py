"""Windows-1252 unless the evidence against it is strong, and which letters are in doubt."""

import unicodedata

import pytest

from textassay.data.code_pages import other_reading
from textassay.data.encoding import find_encoding, find_encodings

SENTENCES = {
    ("cp1252", "French"): "Où est ma commande ? Ça fait déjà dix jours|"
    "Qualité très moyenne, à éviter",
    ("cp1252", "English"): "Don’t miss it — call now|"
    "Your bill of £45.20 is due|Please reply, I’m waiting",
    ("cp1252", "Italian"): "Perché non rispondete più?|È già rotto, però costa metà|Così non va",
    ("cp1252", "Spanish"): "¿Dónde está mi pedido?|Español muy útil, volveré mañana|Qué vergüenza",
    ("cp1252", "German"): "Das Frühstück war großartig|Völlig überteuert, schöne Straße",
    ("cp1252", "Portuguese"): "Não recomendo, a atenção é péssima|"
    "Você não vai se arrepender|Avó e avô",
    ("cp1252", "Swedish"): "Maten var jättegod|Rummet låg nära sjön|Så här bra, på Östersjön",
    ("cp1252", "Danish"): "Maden var kold og dårlig|Jeg elsker køkken og øen|Æblerne var søde",
    ("cp1254", "Turkish"): "Ürün çok kötü, hiç beğenmedim|"
    "Kargo hızlı geldi, teşekkürler|Siparişim nerede?",
    ("cp1250", "Polish"): "Przesyłka dotarła szybko, dziękuję|"
    "Świetny film, zamówienie też|Żadnej odpowiedzi",
    ("cp1250", "Czech"): "Zásilka přišla rychle, děkuji|"
    "Skvělý film, příliš dlouhý|Kde je mé zboží?",
    ("cp1250", "Hungarian"): "Nagyszerű film, köszönöm|"
    "Hol van a rendelésem?|Nem működik, csalódott vagyok",
    ("cp1257", "Latvian"): "Sūtījums pienāca ātri|"
    "Lieliska grāmata, ļoti laipna|Nestrādā, esmu vīlies",
    ("cp1257", "Lithuanian"): "Siunta atėjo greitai, ačiū|"
    "Neveikia, esu nusivylęs|Sumokėjau, gėda, mažas",
    ("cp1251", "Russian"): "Очень хороший фильм|Скучно и слишком долго|Товар пришёл сломанным",
    ("cp1251", "Bulgarian"): "Много хубав филм|Къде е поръчката ми?|Никога повече",
    ("koi8-r", "Russian"): "Очень хороший фильм|Скучно и слишком долго|Товар пришёл сломанным",
    ("cp1253", "Greek"): "Πολύ καλή ταινία|Πού είναι η παραγγελία μου;|Ποτέ ξανά, ευχαριστώ",
    ("cp1255", "Hebrew"): "סרט טוב מאוד|איפה ההזמנה שלי?|המוצר הגיע שבור",
    ("cp1256", "Arabic"): "فيلم جيد جدا|أين طلبي؟|وصل المنتج مكسورا",
}  # fmt: skip


def rows_of(language, count):
    sentences = SENTENCES[language].split("|")
    lines = (f'"{sentences[n % len(sentences)]} {n}",{"ab"[n % 2]}\n' for n in range(count))
    return "text,label\n" + "".join(lines)


@pytest.mark.parametrize("rows", [5, 40, 400])
@pytest.mark.parametrize("language", SENTENCES, ids=" ".join)
def test_every_language_is_read_as_it_was_written(language, rows, write):
    text = rows_of(language, rows)
    path = write("a.csv", text.encode(language[0]))
    found = find_encoding(path)
    assert path.read_bytes().decode(found.name) == text
    assert "a guess" in found.note and "--encoding" in found.note


@pytest.mark.parametrize("word", ["naïve", "Dvořák", "Müller", "£5", "25 °C", "½", "© 2020 Nike®"])
def test_few_letters_are_weak_evidence_and_read_as_windows_1252(word, write):
    for page in ("cp1252", "cp1250"):
        content = (f"{word},a\n" + "A text like any other,b\n" * 300).encode(page, "ignore")
        if not content.isascii():
            assert find_encoding(write("a.csv", b"text,label\n" + content)).name == "cp1252"


def test_the_evidence_may_stand_far_down_in_a_file(write):
    text = (
        "text,label\n" + "A text like any other,a\n" * 40_000 + rows_of(("cp1251", "Russian"), 40)
    )
    assert find_encoding(write("a.csv", text.encode("cp1251"))).name == "cp1251"


def test_all_files_of_a_set_are_read_in_one_encoding(write):
    many = write("train.csv", rows_of(("cp1250", "Polish"), 40).encode("cp1250"))
    few = write("test.csv", "text,label\nZamówienie,a\n".encode("cp1250"))
    ascii_only, utf_8 = write("dev.csv", "text,label\nplain,a\n"), write("b.csv", "text\nżółw\n")
    assert find_encoding(few).name == "cp1252"
    found = {
        path.name: of.name for path, of in find_encodings([few, many, ascii_only, utf_8]).items()
    }
    assert found == {
        "train.csv": "cp1250", "test.csv": "cp1250", "dev.csv": "utf-8", "b.csv": "utf-8"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("page", "text", "doubt"),
    [
        ("cp1252", "déjà vu", ("cp1250", "déjà", "déjŕ")),
        ("cp1252", "Don’t pay £45", None),
        ("cp1252", "großartig, Frühstück, völlig", None),
        ("cp1254", "çok güzel ışık", ("cp1252", "ışık", "ýþýk")),
        ("cp1251", "Очень хороший", ("mac-cyrillic", "Очень", "ќчень")),
        ("cp1251", SENTENCES["cp1251", "Russian"], ("mac-cyrillic", "Очень", "ќчень")),
        ("koi8-r", SENTENCES["koi8-r", "Russian"], None),
        ("cp1253", SENTENCES["cp1253", "Greek"], None),
        ("cp1253", SENTENCES["cp1253", "Greek"] + " Άριστη", ("iso8859-7", "Άριστη", "’ριστη")),
        ("cp1255", SENTENCES["cp1255", "Hebrew"], None),
        ("cp1256", SENTENCES["cp1256", "Arabic"], None),
        ("gb18030", "好 坏", ("big5", "好 坏", "疑 輓")),
        ("gb18030", "房间很干净，服务也不错，等了三个星期还没有到", None),
    ],
)
def test_a_doubt_is_a_word_that_another_page_reads_as_another_word(page, text, doubt):
    assert other_reading(text.encode(page), page) == doubt
    assert unicodedata.is_normalized("NFC", text)


@pytest.mark.parametrize("page", ["mac_cyrillic", "cp866", "iso8859_5"])
@pytest.mark.parametrize("rows", [5, 400])
def test_a_page_that_is_never_guessed_is_a_doubt(page, rows, write):
    """Such a file is read wrongly, with a note; what matters is that no copy is written of it."""
    path = write("a.csv", rows_of(("cp1251", "Russian"), rows).encode(page))
    assert find_encoding(path).doubt


@pytest.mark.parametrize("language", SENTENCES, ids=" ".join)
def test_a_word_alone_is_read_as_it_was_written_or_a_doubt(language, write):
    for word in set(SENTENCES[language].replace("|", " ").split()):
        content = f"text,label\n{word},a\nplain,b\n".encode(language[0])
        if content.isascii():
            continue
        found = find_encoding(write("a.csv", content))
        assert found.doubt or content.decode(found.name) == content.decode(language[0]), word

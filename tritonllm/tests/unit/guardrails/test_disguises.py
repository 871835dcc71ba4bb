"""What people reported of filters like this one, and its siblings: by kind, what is found and what is left alone."""

from __future__ import annotations

import pytest
from policies import banned, masked, rule

from tritonllm import guardrails

ENGLAND = "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f"
SCOTLAND = "\U0001f3f4\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f"


def hidden(text: str) -> str:
    """A text in tag characters."""
    return "".join(chr(0xE0000 + ord(char)) for char in text)


@pytest.mark.parametrize(
    "said",
    ["pro~~ject~~ falcon", "pro**ject** fal*con*", "`project` **falcon**", "project [falcon](http://x)",
     '[project](http://x "y") falcon', "proj[e](http://x)ct falcon", "project&nbsp;falcon",
     "project&#32;falcon", "project&#x20;falc&#111;n", "&#112;roject f&#x61;lcon", "project <b>falcon", "project</b> falcon",
     "<b>pro</b>ject <i class='x'>fal</i>con", "project<br>falcon", "project<br/>\nfalcon", "project <!-- x --> falcon",
     "pro<!-- x -->ject falcon", "| project | falcon |", "project|falcon", "project\n> falcon", "project\\_falcon",
     "project\\-falcon", "pro&shy;ject falcon", "pro&#8203;ject falcon", "project <span>**fal**con</span>",
     "__pro__ject falcon", "project[^1] falcon", "project[12] falcon", "project<sup>2</sup> falcon", "![project](x) falcon",
     "project <td>falcon</td>", "*project* <u>falcon</u>", "project<BR>falcon", "<details><summary>project</summary>falcon</details>",
     "project\\\nfalcon", "[project](<http://x y>) falcon", "project[^note-1] falcon", "project[1, 2] falcon", "project[1-3] falcon",
     "project【1】 falcon", "project【4:0†source】 falcon", '<sup class="x">[1]</sup>project<sup class="y">2</sup> falcon',
     "pro<!-- a\nb -->ject falcon", "pro<!-->ject falcon", "project &laquo;falcon&raquo;", "project&bull;falcon"],
)  # fmt: skip
def test_a_phrase_that_a_chat_page_shows_is_found_through_its_markup(said: str) -> None:
    left = masked(banned("project falcon"), f"a {said} b")
    assert "#" in left
    assert "falcon" not in left
    assert "project" not in left


@pytest.mark.parametrize(
    "said", ["_B_**e**rlin", "Berl[i](http://x)n", "B*erl*in", "Ber<wbr>lin", "B&#101;rlin"]
)
def test_a_word_is_found_through_markup_inside_it(said: str) -> None:
    assert "#" in masked(banned("Berlin"), f"({said})")


@pytest.mark.parametrize(
    "text",
    ["snake_case_name", "a[0] = b[1]", "if (a < b && c > d)", "x = a & b;", "List<String> as = s;", "2 * 3 * 4", "f(C) + (R)",
     "as_s", "[a](b)", "&amp; &unknown; &", "\\begin{as}s\\end", "<as s>", "a]s[s", "as](s", "http://a/as_s?x=[s]"],
)  # fmt: skip
def test_code_is_not_read_together_over_its_signs(text: str) -> None:
    assert masked(banned("ass", "asb", "cc"), text) == text


# docs/guardrails.md lists these as not found.
NOT_FOUND = [
    ("falcon", "ɟɐlɔou"),
    ("falcon", "noclaf"),
    ("falcon", "F\nA\nL\nC\nO\nN"),
    ("falcon", "ZmFsY29u"),
    ("project falcon", "project [x](y)falcon"),
    ("project falcon", "proj" + hidden("ect") + " falcon"),
    ("project falcon", "projectfalcon"),
    ("project falcon", "project, falcon"),
    ("project falcon", "project's falcon"),
    ("씨발", "씨 발"),
    ("法轮功", "他说法 轮 功好"),
    ("바보", "바보야"),
    ("go", "g o"),
    ("falcon", "f. a. l. c. o. n."),
    ("project falcon", "[project][1] falcon"),
    ("project falcon", "$\\mathrm{project}$ falcon"),
    ("project falcon", "project :fire: falcon"),
    ("acme cloud", "ACME → Cloud"),
    ("acme cloud", "ACME^TM^ Cloud"),
]


@pytest.mark.parametrize(("phrase", "said"), NOT_FOUND)
def test_what_the_documentation_lists_as_not_found_is_not_found(phrase: str, said: str) -> None:
    assert masked(banned(phrase), f"a {said}") == f"a {said}"


def test_hidden_text_is_read_as_the_letters_that_it_carries() -> None:
    policy = banned("project falcon")
    assert masked(policy, "Hello" + hidden("tell me about project falcon") + "!") == (
        "Hello" + hidden("tell me about ") + "#!"
    )
    assert masked(policy, hidden("Project-Falcon")) == "#"
    assert masked(policy, "project " + hidden("falcon")) == "#"
    assert masked(policy, "pro" + hidden("x") + "ject falcon") == "#"
    assert masked(policy, "hi" + "\u200b".join(hidden("project falcon"))) == "hi#"
    assert masked(policy, "hi" + hidden("project\x7f fal") + "\ufe0f" + hidden("con")) == "hi#"


def test_text_in_the_bytes_of_variation_selectors_is_read() -> None:
    carried = "".join(chr(0xE0100 + ord(char) - 16) for char in "ask project falcon")
    assert (
        masked(banned("project falcon"), f"😀{carried} 葛\U000e0100城") == f"😀{carried[:4]}# 葛\U000e0100城"
    )


@pytest.mark.parametrize(
    "text", [f"{ENGLAND} {SCOTLAND}", f"a{ENGLAND}b", "🇩🇪🇫🇷🇮🇹", "🇩🇪", "🏴 🏴‍☠️ 🏳️‍🌈", "🇦🇸🇸🇴", "🇬🇧🇺🇸"]
)
def test_flags_are_no_letters(text: str) -> None:
    assert masked(banned("gbeng", "gbsct", "de", "defr", "frit", "as", "gbus"), text) == text


@pytest.mark.parametrize(
    "said",
    ["🅿🆁🅾🅹🅴🅲🆃 🅵🅰🅻🅲🅾🅽", "🅟🅡🅞🅙🅔🅒🅣 🅕🅐🅛🅒🅞🅝", "🄿🅁🄾🄹🄴🄲🅃 🄵🄰🄻🄲🄾🄽", "⒫⒭⒪⒥⒠⒞⒯ ⒡⒜⒧⒞⒪⒩", "Pʀᴏᴊᴇᴄᴛ Fᴀʟᴄᴏɴ", "ᴘʀᴏᴊᴇᴄᴛ ꜰᴀʟᴄᴏɴ",
     "🇵🇷🇴🇯🇪🇨🇹 🇫🇦🇱🇨🇴🇳", "\u200b".join("🇵🇷🇴🇯🇪🇨🇹") + " " + "\u200b".join("🇫🇦🇱🇨🇴🇳"), "project\u3164falcon", "project\u2800falcon",
     "project\u115f\u1160falcon", "project\uffa0falcon", "ᵖʳᵒʲᵉᶜᵗ ᶠᵃˡᶜᵒⁿ", "ⓟⓡⓞⓙⓔⓒⓣ ⓕⓐⓛⓒⓞⓝ", "𝓹𝓻𝓸𝓳𝓮𝓬𝓽 𝕗𝕒𝕝𝕔𝕠𝕟", "ƥroject ƒalcoɳ", "ᵽɍøɉɇȼŧ fałcøn", "project ƒαℓ¢ση", "project ₣₳Ⱡ₵Ø₦", "ρяσנє¢т fałcøn", "project ʄąʟƈօռ"],
)  # fmt: skip
def test_ornament_does_not_matter_and_a_blank_letter_is_a_gap(said: str) -> None:
    assert masked(banned("project falcon"), f"a {said} b") == "a # b"


@pytest.mark.parametrize(
    ("phrase", "said"),
    [
        ("пароль", "пapoль"), ("пароль", "пαроль"), ("мудак", "Mудaк"), ("мудак", "м у д а к"), ("мудак", "м.у.д.а.к"),
        ("мудак", "муда\u200bк"), ("мудак", "мудаааак"), ("хрен", "xpeн"), ("хрен", "XРЕН"), ("сука", "cykа"), ("сука", "с*ка"),
        ("сука", "сук@"), ("говно", "г0вно"), ("зараза", "зapaзa"), ("зараза", "3араза"), ("черт", "4ерт"), ("ёлка", "елка"),
        ("σκατα", "σκaτα"), ("σκατά", "ΣKATA"), ("μαλάκας", "μaλaκaς"), ("σκατά", "σ κ α τ α"),
        ("كلمة", "كلـــمة"), ("كلمة", "كـلـمـة"), ("كلمة", "ك ل م ة"), ("كلمة", "كَلِمَة"), ("كلمة", "كل\u200cمة"), ("كلمة", "ﻛﻠﻤﺔ"),
        ("شرموطة", "شرمووووطة"), ("یک", "يك"), ("שרמוטה", "ש ר מ ו ט ה"), ("שרמוטה", "שַׁרְמוּטָה"),
        ("địt mẹ", "dit me"), ("địt mẹ", "ĐỊT MẸ"), ("địt mẹ", "đi\u0323t me\u0323"), ("łajdak", "lajdak"), ("größe", "GROSSE"), ("größe", "g r ö ß e"),
        ("œuvre", "oeuvre"), ("oeuvre", "ŒUVRE"), ("aether", "æther"), ("блять", "бл9ть"), ("гадкий", "г/а/д/к/и/й"), ("गधा", "गधाााा"),
        ("バカ", "ﾊﾞｶ"), ("バカ", "ハ\u3099カ"), ("चूतिया", "चूतिया"), ("바보", "\u1107\u1161\u1107\u1169"), ("씨발", "ㅆㅣ발"),
        ("ห้าม", "ห้าม"),
        *[("falcon", sign.join("falcon")) for sign in "/,:;=+|•·—👏\u3000"],
    ],
)  # fmt: skip
def test_a_phrase_of_another_script_is_found_in_its_disguises(phrase: str, said: str) -> None:
    assert masked(banned(phrase), f"({said})") == "(#)"


@pytest.mark.parametrize(
    ("phrase", "text"),
    [
        ("сор", "a cop, the cop"), ("сор", "cop"), ("хрен", "охренел xpen"), ("мама", "MAMA mama"), ("а", "a"), ("вес", "BEC"),
        ("с*ка", "сука"), ("바보", "바보야"), ("ハ", "バ パ"), ("か", "が"), ("ก", "กี ก็"), ("หี", "หนังสือห้าเล่มที่หาดใหญ่"), ("कम", "कमी"), ("ค", "คำ"), ("ກ", "ກຳ"), ("カ", "ｶﾞ"),
        ("ب", "بـة"), ("שר", "שרה"), ("кг", "45кг"), ("сек", "5сек 5с"), ("ос", "05"), ("зо", "30 3о 300р"),
    ],
)  # fmt: skip
def test_ordinary_words_of_a_script_are_left_alone(phrase: str, text: str) -> None:
    assert masked(banned(phrase), text) == text


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("ACME† Cloud, ACME‡ and ACME§ Cloud", "#, #‡ and #"),
        ("ACME (TM) Cloud, ACME(R) Cloud, ACME(C)", "#, #, #(C)"),
        ("ACME[1] Cloud, ACME[^note] Cloud, ACME¹ Cloud", "#, #, #"),
        ("ACME<sup>®</sup> Cloud, ACME&reg; Cloud, ACME&trade; Cloud", "#, #, #"),
        ("ACMEᵗᵐ, ACMEᵀᴹ Cloud, ACMEᵃ", "#, #, #"),
        ("ACME 🔥 Cloud, ACME🔥Cloud, ACME ☁️ Cloud, 🔥ACME🔥", "#, #, #, 🔥#🔥"),
        ("ACME🅪 Cloud, ACME🅫, ACME🄬 Cloud, ACMEⓇ Cloud, ACME ⓡ Cloud", "#, #🅫, #, #, #"),
        ("ACME (®) Cloud, ACME(™), ACME ( R ) Cloud", "#, #(™), #"),
        ("ACME⁽¹⁾ Cloud, ACME⁺, ACME※ Cloud, ACME⁂", "#, #⁺, #, #⁂"),
        ("ACME 1️⃣ Cloud, ACME2️⃣, #️⃣ACME", "#, #2️⃣, #️⃣#"),
        ("ACME «Cloud», „ACME“ „Cloud“, ACME「Cloud」, ACME ‹Cloud›", "#», „#“, #」, #›"),
        ("ACME•Cloud, ACME·Cloud, ACME・Cloud, ACME−Cloud, ACME⸺Cloud", "#, #, #, #, #"),
        ("ACME´s, ACMEˈCloud, ACMEꞌs, ACME″ Cloud", "#´s, #, #ꞌs, #"),
        ("ACME① Cloud, ACME❷ Cloud, ACME③", "#, #, #③"),
        ("ACME → Cloud", "# → Cloud"),
        ("O’ACME’s ‘ACME’", "O’#’s ‘#’"),
    ],
)
def test_signs_and_footnotes_neither_hide_nor_join_a_name(text: str, left: str) -> None:
    found = masked(banned("ACME", "ACME Cloud"), text)
    assert found.replace("#ᵗᵐ", "#").replace("#ᵃ", "#") == left


@pytest.mark.parametrize(
    "text",
    ["45s", "5s", "iPhone 5s", "S9", "g5", "i5", "i7-13700K", "A55", "M1", "B12", "16GB", "1080p", "4K", "$45k", "€45k", "0xBA55",
     "24h", "90s", "the 90s", "1st", "7B", "v1", "x86", "H2O", "i18n", "mp3", "gpt-4o", "3:45", "4.5s", "45-55s", "10⁵", "50%",
     "|45s|", "|45s|55s|", "@45s", "!45s", "T+45s", "45s+", "45s+5s", "2*45s", "45s*2", "45s²", "45s¹", "45$", "5h17", "1h45m", "1e55"],
)  # fmt: skip
def test_numbers_and_names_of_models_are_no_leet(text: str) -> None:
    phrases = [
        "ass",
        "ss",
        "as",
        "gs",
        "is",
        "sg",
        "ig",
        "tb",
        "bb",
        "bia",
        "vi",
        "xbg",
        "kbs",
        "bass",
        "aas",
        "mi",
        "so",
        "iap",
        "ao",
        "shit",
        "less",
    ]
    assert masked(banned(*phrases), text) == text


@pytest.mark.parametrize(
    ("phrase", "said"),
    [("ass", "a5s"), ("bass", "ba55"), ("boobs", "b00b5"), ("shit", "5h1t"), ("leet", "l33t"), ("elite", "3l1t3"), ("idiot", "1d10t"),
     ("hotel", "h073l"), ("go", "g0"), ("asshole", "@55h01e"), ("ass", "@5s"), ("tits", "7i+s"), ("bitch", "b1+ch")],
)  # fmt: skip
def test_leet_is_found_all_the_same(phrase: str, said: str) -> None:
    assert masked(banned(phrase), f"you {said}!") == "you #!"


def with_accents(accents: str, *phrases: str) -> guardrails.Policy:
    return guardrails.compile([rule(banned={"phrases": list(phrases), "accents": accents})])


@pytest.mark.parametrize(
    ("phrase", "same", "others"),
    [
        ("año", "año AÑO an\u0303o 𝐚ñ𝐨 @ño ａｎ\u0303ｏ a\u0336ño", "ano"),
        ("cafe", "cafe CAFE c@fe", "café cafe\u0301 càfe"),
        ("größe", "größe GRÖSSE grösse", "große grosse"),
        ("łajdak", "łajdak ŁAJDAK", "lajdak"),
        ("địt", "địt đi\u0323t", "dit đit dịt"),
        ("мой", "мой МОЙ", "мои"),
        ("σκατά", "σκατά ΣΚΑΤΆ", "σκατα"),
        ("שלום", "שלום", "שָׁלוֹם"),
        ("كلمة", "كلمة كـلمة", "كَلِمَة"),
        ("élève", "élève éééélève", "eleve éleve elève"),
    ],
)
def test_accents_match_only_if_the_rule_says_so(phrase: str, same: str, others: str) -> None:
    for said in f"{same} {others}".split():
        assert masked(with_accents("Ignore", phrase), f"({said})") == "(#)"
    for said in same.split():
        assert masked(with_accents("Match", phrase), f"({said})") == "(#)"
    for said in others.split():
        assert masked(with_accents("Match", phrase), f"({said})") == f"({said})"


def test_one_rule_has_words_that_differ_by_their_accents() -> None:
    assert masked(with_accents("Match", "año", "cafe"), "año ano café cafe") == "# ano café #"


@pytest.mark.parametrize(
    ("phrase", "warning"),
    [
        ("año", "the phrase 'año' is folded to 'ano', a common word"),
        ("más", "the phrase 'más' is folded to 'mas', a common word"),
        ("ö", "the phrase 'ö' has one letter when it is folded"),
        ("ห", "the phrase 'ห' has one letter when it is folded"),
        ("a\u200b", "has one letter when it is folded"),
    ],
)
def test_a_phrase_that_matches_more_than_is_meant_gets_a_warning(phrase: str, warning: str) -> None:
    (text,) = guardrails.warnings([rule(name="r", banned={"phrases": [phrase, "falcon"]})])
    assert text.startswith("rule r: ")
    assert warning in text


@pytest.mark.parametrize("phrase", ["mas", "the", "c++", "falcon", "straße", "法轮功", ".env"])
def test_other_phrases_get_no_warning(phrase: str) -> None:
    assert guardrails.warnings([rule(banned={"phrases": [phrase]}), rule(profanity={})]) == []
    assert guardrails.warnings([rule(banned={"phrases": ["año"], "accents": "Match"})]) == []

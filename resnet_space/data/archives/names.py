"""Detect the encoding of the file names in an old zip, which does not specify it.

One encoding is chosen for all names together, as one machine wrote them. Where they are no UTF-8, each candidate is a
small model of how its readers write: how common its letters are, and how many ASCII letters stand among them. The most
likely one wins (the "code scheme" and "character distribution" methods of Li & Momoi 2001, for texts of a few letters).
A narrow win is reported as a guess.
"""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

from resnet_space.data.archives.report import Decision

ENOUGH = 5_000  # words to judge by
SURE = math.log(100)  # how much more likely than any other reading
ENDING = re.compile(rb"\.[A-Za-z0-9]{1,5}$")
UNLIKELY = 1e-6  # of a symbol, a drawing of a box, a character that nobody uses

# What class names are made of, simplified, traditional and Japanese: a wrong reading hits one of these by chance only.
HANZI = (
    "猫貓狗犬马馬牛羊猪豬鸡鷄雞鸭鴨鹅鳥鸟鱼魚虫蟲兔虎龙龍蛇猴鼠熊鹿象狼狐狮獅豹鹰鷹蝶蜂蚁蛙龟龜貝贝虾蟹花草木树樹叶葉果林森竹松梅桃李"
    "梨瓜豆米麦麥茶菜肉蛋奶酒水火土山石田川河海湖雨雪云雲風风日月星天空地人男女子大小中上下左右前後后内外长長高低新旧舊老幼好坏壞"
    "红紅黄黃蓝藍绿綠青白黑灰紫金银銀铁鐵铜銅车車船机機飞飛電电话話脑腦手足头頭目口耳鼻心身衣服鞋帽包书書画畫笔筆纸紙桌椅子床门門窗"
    "房家屋楼樓店路桥橋城市国國学學校生物品类類种種病健康正常异異食飯饭面麵包糖盐油道刀枪球工具建筑築灯燈衫裤褲裙玩具动動植照片图圖"
    "像訓训练練测測试試集验驗証证数數据據一二三四五六七八九十百千万個个本東东西南北京功夫能力不有是的写真写寫用無无和明"
)
HANGUL = (
    "이다는을가에의고하지사리로도한기어나자아서은시들인대그일보스라부정주수장마해전상소제원구러과성여조와오있안유모동내면경비드게때화미"
    "생신무거물발치식중바진용관공만국위문음교개방실입체재강차우년연습니양고양이강아지새집꽃나무사과배포도호랑말토끼곰돼닭오리물고기"
    "자동차비행기배의책상컴퓨터전화사람남여학교훈련검증시험데이터정상불량정류분류이미지그림사진옷신발모자가방음식빵밥국김치"
)
ACCENTED = "áàâäãåæçéèêëíìîïñóòôöõøœúùûüßÁÀÂÄÅÆÇÉÈÊËÍÎÏÑÓÔÖØŒÚÜ"
CENTRAL = "áäąâăćčçďéěęëíîĺľłńňóôöőŕřśšşťţúůüűýźžżßÁÄĄÇČĆĎÉĚĘÍŁŃÓÖŐŘŚŠŤÚŮÜŰÝŹŽŻ"
RUSSIAN = "абвгдежзийклмнопрстуфхцчшщъыьэюяё"
KANA = "".join(map(chr, range(0x3041, 0x30FF)))

# (share of the characters, how many they are, which): a set, or first bytes and last bytes from.
Common = tuple[float, int, str | tuple[range, int]]


@dataclass(frozen=True)
class Encoding:
    """Python's name, people's name, the share of ASCII letters, and the other characters; how many use it, as log."""

    codec: str
    title: str
    ascii: float
    letters: tuple[Common, ...]
    prior: float = 0.0


WESTERN: tuple[Common, ...] = ((0.08, 52, ACCENTED),)
CYRILLIC: tuple[Common, ...] = ((0.8, 33, RUSSIAN), (0.1, 33, RUSSIAN.upper()))
# The double-byte ones are sorted by use: what is common begins with a low byte.
ENCODINGS = (
    Encoding("cp437", "cp437 (DOS)", 0.9, WESTERN),
    Encoding("cp850", "cp850 (DOS, Western European)", 0.9, WESTERN, -0.5),
    Encoding("cp1252", "cp1252 (Windows, Western European)", 0.9, WESTERN),
    Encoding("cp852", "cp852 (DOS, Central European)", 0.85, ((0.12, 68, CENTRAL),), -5.0),
    Encoding("cp1250", "cp1250 (Windows, Central European)", 0.85, ((0.12, 68, CENTRAL),), -5.0),
    Encoding("cp866", "cp866 (DOS, Cyrillic)", 0.05, CYRILLIC),
    Encoding("cp1251", "cp1251 (Windows, Cyrillic)", 0.05, CYRILLIC, -0.5),
    Encoding(
        "cp932", "Shift-JIS (Japanese)", 0.05,
        ((0.5, 170, KANA), (0.25, 400, HANZI), (0.15, 2_965, (range(0x88, 0x99), 0x40)),
         (0.01, 3_390, (range(0x99, 0xEB), 0x40))),
    ),
    Encoding(
        "gbk", "GBK (Chinese)", 0.05,
        ((0.6, 400, HANZI), (0.3, 3_755, (range(0xB0, 0xD8), 0xA1)), (0.02, 3_008, (range(0xD8, 0xF8), 0xA1))),
    ),
    Encoding(
        "cp950", "Big5 (Chinese)", 0.05,
        ((0.6, 400, HANZI), (0.3, 5_401, (range(0xA4, 0xC7), 0x40)), (0.02, 7_652, (range(0xC9, 0xFA), 0x40))),
    ),
    Encoding(
        "cp949", "cp949 (Korean)", 0.05,
        ((0.7, 220, HANGUL), (0.2, 2_350, (range(0xB0, 0xC9), 0xA1)), (0.02, 8_822, (range(0x81, 0xC7), 0x41))),
    ),
)  # fmt: skip


def encoding_of(names: Iterable[bytes]) -> tuple[str, Decision | None]:
    """The codec for all unmarked names of an archive, and a note about it; no note for ASCII and UTF-8."""
    words = {ENDING.sub(b"", word) for name in names for word in name.split(b"/")}
    words = {re.sub(rb"[0-9]+", b"", word) for word in words if not word.isascii()}
    if all(_decoded(word, "utf-8") is not None for word in words):
        return "utf-8", None
    some = sorted(words)[:ENOUGH]
    scored: list[tuple[float, Encoding, list[str]]] = []
    for encoding in ENCODINGS:
        texts = [text for word in words if (text := _decoded(word, encoding.codec)) is not None]
        if len(texts) == len(words):
            texts = [word.decode(encoding.codec) for word in some]
            scored.append((sum(_likelihood(text, encoding) for text in texts), encoding, texts))
    best, encoding, texts = max(scored, key=lambda one: one[0] + one[1].prior)  # cp437 can read everything
    others = max((score for score, _, other in scored if other != texts), default=-math.inf)
    odd = any(_share(character, encoding) == UNLIKELY for text in texts for character in text)
    said = f"The archive does not specify the encoding of its file names: they were read as {encoding.title}"
    if odd or best - others < SURE:
        said += ", which is a guess, so check the class names"
    return encoding.codec, Decision("encoding", f"{said}.")


def _decoded(word: bytes, codec: str) -> str | None:
    try:
        return word.decode(codec)
    except UnicodeDecodeError:
        return None


def _likelihood(text: str, encoding: Encoding) -> float:
    return sum(math.log(_share(character, encoding)) for character in text)


def _share(character: str, encoding: Encoding) -> float:
    """Relative frequency of a character in texts in this encoding."""
    if character.isascii():
        if character.isalpha():
            return encoding.ascii / 52
        return 0.01 if character in " _-.,()'&+" else UNLIKELY
    for share, count, which in encoding.letters:
        if isinstance(which, str):
            if character in which:
                return share / count
        else:
            lead, *trail = character.encode(encoding.codec)
            if lead in which[0] and trail and trail[0] >= which[1]:
                return share / count
    return UNLIKELY

# ruff: noqa: RUF001  (other alphabets are meant)
"""Words and sentences to synthesise training speech from, all written for this project.

Meaning is beside the point: what counts is that every sound meets many neighbours in every language. Sentences
are read as they are; their words are also shuffled, and invented words fill the gaps real words leave.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

SENTENCES: dict[str, tuple[str, ...]] = {
    "en": (
        "Please put both boxes by the big blue door before breakfast.",
        "My mother made a warm apple pie, and we ate it while it was still hot.",
        "Five very funny foxes found a half-full vase of violets on the roof.",
        "The weather was rough, but the boats in the harbour stayed calm.",
        "She usually chooses a sharp knife to chop the fresh ginger.",
        "Who would have thought that quiet water could wear away a wall?",
        "Thank you for thinking of those three old brothers in the north.",
        "Young people use their phones on the train, at school, even in bed.",
        "I promise to return your umbrella by Thursday at the latest.",
        "Good evening, and welcome to the programme about moonlight and music.",
        "A large group of people jumped up and clapped when the judge arrived.",
        "Bob, could you pass me the butter, the bread and the marmalade?",
        "We measured the pressure in every pipe, and nothing was broken.",
        "He lives above a coffee shop where the smell never leaves the stairs.",
        "Nobody knew why the small green engine whistled twice at noon.",
        "What a beautiful morning! The birds are singing in the garden.",
        "Zoe's cousin raises bees and sells honey at the zoo.",
        "Our plan is simple: leave early, drive slowly, arrive in one piece.",
        "The painter mixed purple, brown and a little bit of white.",
        "Most of my memories of that summer smell of grass and petrol.",
        "Let me think about it for a moment, and then I will call you back.",
        "You should have seen the look on his face when the lamp fell over.",
        "Keep the change, keep the keys, but give me back my book.",
        "Few visitors ever reach the far end of the valley on foot.",
        "The Wright family bought a house with a huge yard and an old oak.",
    ),
    "de": (
        "Bitte bring den blauen Becher und zwei Brötchen mit nach Hause.",
        "Meine Mutter kocht am Abend gern eine warme Suppe mit Pilzen.",
        "Über den Wolken fühlt man sich manchmal völlig frei.",
        "Der junge Pfarrer pfiff fröhlich durch die feuchten Gassen.",
        "Schöne Grüße an euch alle, wir sehen uns übermorgen am Bahnhof.",
        "Niemand wusste, warum die Uhr im Flur plötzlich stehen blieb.",
        "Hast du wirklich achtzehn Äpfel in diese kleine Schüssel gelegt?",
    ),
    "fr": (
        "Bonjour madame, vous prendrez bien un peu de pain avec le fromage ?",
        "Le vieux marin regarde la mer et pense à son bateau perdu.",
        "Un bon vin blanc se boit frais, en bonne compagnie.",
        "Les enfants jouent dans la rue jusqu'à la tombée de la nuit.",
        "Je voudrais un billet pour le premier train de demain matin.",
        "Sous le pont, huit oiseaux mouillés attendent que la pluie finisse.",
        "Pourquoi veux-tu toujours avoir le dernier mot, mon petit ?",
    ),
    "es": (
        "Buenos días, ¿me pone un café con leche y una barra de pan?",
        "El perro de mi vecino ladra cuando pasa el autobús.",
        "Mañana por la mañana vamos a comprar fruta en el mercado viejo.",
        "La jirafa comía hojas verdes junto al río mientras llovía.",
        "Nunca había visto una luna tan grande sobre las montañas.",
        "Pablo bebe agua fría, pero Beatriz prefiere el zumo de manzana.",
        "¿Quién dejó la puerta abierta y la lámpara encendida toda la noche?",
    ),
    "it": (
        "Buongiorno, vorrei mezzo chilo di pomodori e due mele verdi.",
        "La bambina con gli occhiali legge un libro sotto l'albero.",
        "Abbiamo pagato troppo, ma il pranzo era davvero buonissimo.",
        "Gli zii arrivano giovedì con il treno delle cinque e mezza.",
        "Che bella giornata per fare una passeggiata lungo il fiume!",
        "Giuseppe chiude la finestra perché fuori soffia il vento.",
    ),
    "pt-br": (
        "Bom dia, meu amigo, você quer um pouco de pão com manteiga?",
        "O menino correu pela praia até encontrar a bola vermelha.",
        "Amanhã vamos viajar bem cedo para não pegar chuva na estrada.",
        "As mulheres da aldeia lavam a roupa e cantam juntas.",
        "Ninguém sabia por que o velho relógio parou à meia-noite.",
    ),
    "nl": (
        "Goedemorgen, mag ik een half bruin brood en zes eieren?",
        "De buurman heeft gisteren zijn grote boot wit geverfd.",
        "Vanavond gaan wij met z'n vijven naar de film in de stad.",
        "Het meisje zag een gele vogel op het dak van de schuur.",
        "Waarom is het water in de gracht vandaag zo vreemd groen?",
    ),
    "pl": (
        "Dzień dobry, poproszę chleb, masło i pół kilo białego sera.",
        "W szczebrzeskim lesie chrząszcz brzmi głośniej niż zwykle.",
        "Mój brat pojechał wczoraj pociągiem do babci nad morze.",
        "Czy możesz zamknąć okno, bo wieje i jest mi zimno?",
        "Żółta żaba siedzi pod dużym liściem i czeka na deszcz.",
    ),
    "ru": (
        "Доброе утро, передайте, пожалуйста, хлеб и масло.",
        "Мой дедушка каждый вечер читает газету у окна.",
        "Вчера мы купили большую белую чашку и пять жёлтых яблок.",
        "Почему в этом городе так поздно зажигают фонари?",
        "Молодая женщина поёт песню, а ребёнок тихо спит.",
    ),
    "cmn": (
        "早上好，我想买两个苹果和一杯热茶。",
        "他的妈妈每天坐公共汽车去学校上班。",
        "今天天气很好，我们一起去公园走走吧。",
        "小鸟飞过大树，孩子们跑来看它。",
        "你为什么不喜欢吃鱼，是不是怕骨头？",
    ),
    "ja": (
        "おはようございます、みずとパンをください。",
        "きのうのよる、ぼくはふるいほんをよみました。",
        "あめがふっているから、かさをもっていきましょう。",
        "ちいさなむらに、やさしいおばあさんがすんでいました。",
        "どうしてそのとけいはとまってしまったのですか。",
    ),
    "ko": (
        "안녕하세요, 따뜻한 물 한 잔과 빵 두 개 주세요.",
        "어제 밤에 우리 할머니는 오래된 노래를 불렀습니다.",
        "내일 아침 일찍 바닷가로 여행을 떠나려고 해요.",
        "왜 저 작은 새는 비가 와도 나무 위에 앉아 있을까요?",
    ),
    "hi": (
        "नमस्ते, मुझे एक गिलास पानी और दो रोटी चाहिए।",
        "मेरी माँ हर सुबह बगीचे में फूल लगाती है।",
        "कल हम बड़ी नाव में बैठकर नदी के पार गए।",
        "बच्चे खुश होकर गली में गेंद खेल रहे हैं।",
    ),
    "ar": (
        "صباح الخير، أريد كوبا من الماء وقطعة خبز.",
        "ذهب أبي إلى السوق واشترى برتقالا وموزا.",
        "لماذا تركت الباب مفتوحا طوال الليل؟",
        "يلعب الأولاد في الحديقة تحت الشجرة الكبيرة.",
    ),
    "tr": (
        "Günaydın, bir bardak su ve biraz beyaz peynir lütfen.",
        "Küçük köpek büyük ağacın altında mışıl mışıl uyuyor.",
        "Yarın sabah vapurla karşıya geçip balık yiyeceğiz.",
        "Niçin bu eski saat her gün öğlen vakti duruyor?",
    ),
    "fi": (
        "Hyvää huomenta, saisinko kupin kahvia ja pullan?",
        "Pieni poika juoksi metsän läpi järven rantaan.",
        "Huomenna me matkustamme junalla mummon luo kylään.",
        "Miksi tuo vanha kello pysähtyy aina puolelta päivin?",
    ),
    "vi": (
        "Xin chào, cho tôi một cốc nước và hai quả táo.",
        "Mẹ tôi nấu phở ngon nhất vào mỗi buổi sáng.",
        "Ngày mai chúng ta sẽ đi thuyền qua sông lớn.",
    ),
    "id": (
        "Selamat pagi, saya mau segelas air dan dua potong roti.",
        "Anak kecil itu berlari mengejar bola sampai ke pantai.",
        "Besok kami akan pergi ke pasar naik perahu tua.",
    ),
    "sw": (
        "Habari ya asubuhi, naomba maji na mkate tafadhali.",
        "Watoto wanacheza mpira chini ya mti mkubwa.",
        "Kesho tutasafiri kwa basi kwenda kumwona bibi.",
    ),
    "hu": (
        "Jó reggelt, kérek egy pohár vizet és két zsemlét.",
        "A kisfiú végigfutott az utcán, hogy elérje a buszt.",
        "Miért állt meg a régi óra pont délután ötkor?",
    ),
    "ro": (
        "Bună dimineața, aș vrea o cafea și o felie de pâine.",
        "Băiatul cel mic aleargă pe plajă după o minge galbenă.",
        "De ce s-a oprit ceasul vechi din turnul bisericii?",
    ),
    "da": (
        "Godmorgen, jeg vil gerne have et glas vand og et rundstykke.",
        "Den lille dreng løb hele vejen ned til stranden.",
        "Hvorfor går det gamle ur altid i stå midt på dagen?",
    ),
    "fa": (
        "صبح بخیر، لطفا یک لیوان آب و نان تازه بدهید.",
        "مادربزرگ هر شب برای بچه‌ها قصه می‌گوید.",
        "فردا با قطار به شهر کنار دریا می‌رویم.",
    ),
    # Never trained on: what the figures for unseen languages are measured with.
    "sv": (
        "God morgon, jag vill gärna ha en kopp kaffe och två bullar.",
        "Den lilla flickan sprang hela vägen ner till sjön.",
        "Varför stannar den gamla klockan alltid mitt på dagen?",
    ),
    "el": (
        "Καλημέρα, θα ήθελα ένα ποτήρι νερό και λίγο ψωμί.",
        "Το μικρό παιδί έτρεξε γρήγορα μέχρι την παραλία.",
        "Γιατί το παλιό ρολόι σταματάει πάντα το μεσημέρι;",
    ),
    "cs": (
        "Dobré ráno, prosím sklenici vody a dva čerstvé rohlíky.",
        "Malý chlapec běžel celou cestu dolů k řece.",
        "Proč se staré hodiny vždycky zastaví v pravé poledne?",
    ),
}
UNSEEN = ("sv", "el", "cs")
SPELLED = ("en", "de", "fr", "es", "it", "pt-br", "nl", "pl", "tr", "fi", "hu", "ro", "id", "sw")  # invented words

_SUBJECTS = (
    *("the baker", "my brother", "a visitor", "the whole village", "her teacher", "some workmen", "our neighbour"),
    *("the pilot", "a woman with a violin", "the boy next door", "five farmers", "the mayor", "your cousin", "the vet"),
    *("an old fisherman", "nobody"),
)
_VERBS = (
    *("buys", "never forgets", "would give away", "put up", "moved", "believes in", "has painted", "looks for"),
    *("might choose", "jumped over", "would measure", "cooks", "asked about", "pulled", "threw", "is watching"),
    *("could carry", "brought back", "washed", "may have broken"),
)
_OBJECTS = (
    *("a yellow bicycle", "the map of Europe", "both windows", "this heavy table", "a pair of gloves", "warm bread"),
    *(
        "the moon",
        "a bowl of rice",
        "thick fog",
        "the wrong ship",
        "four pumpkins",
        "a measure of gold",
        "a wide bridge",
    ),
    *("the best song", "rough paper", "the church bell", "his favourite joke", "fresh coffee", "her purple scarf"),
    *("a thousand leaves",),
)
_ENDS = (
    *("before lunch", "every Wednesday", "with a smile", "in the valley", "on the way home", "for the very first time"),
    *("at the zoo", "behind the theatre", "above the village", "just for fun", "without a word", "by the river"),
    *("though it was raining", "too quickly"),
)

_ONSETS = (
    *("b", "p", "m", "f", "v", "w", "d", "t", "n", "l", "r", "s", "z", "k", "g", "h", "j", "y", "sh", "ch", "th", "st"),
    *("sp", "pr", "br", "bl", "pl", "fr", "fl", "tr", "dr", "kr", "gr", "kl", "gl", "sl", "sm", "sn", "sw", "kw"),
)
_NUCLEI = (*"aeiou", *"aeiou", "ai", "ee", "oo", "ou", "ei", "ea", "au", "oi", "ia", "ua")
_CODAS = (*"nmstlrpbkfdgvzx", "sh", "ng", "nd", "mp", "st", "th")


def words(rng: np.random.Generator, language: str) -> str:
    """Words of the language's sentences in random order."""
    pool = [word for sentence in SENTENCES[language] for word in sentence.strip(".?!;。？").split()]
    return " ".join(rng.choice(pool, size=int(rng.integers(4, 11))))


def sentence(rng: np.random.Generator, language: str) -> str:
    """One written sentence."""
    return str(rng.choice(SENTENCES[language]))


def invented(rng: np.random.Generator, language: str) -> str:
    """Words nobody has said: random syllables, read by the language's own spelling rules."""
    made = []
    for _ in range(int(rng.integers(3, 8))):
        parts = [rng.choice(_ONSETS) + rng.choice(_NUCLEI) for _ in range(int(rng.integers(1, 4)))]
        made.append("".join(parts) + (rng.choice(_CODAS) if rng.random() < 0.5 else ""))
    return " ".join(made) if language in SPELLED else words(rng, language)


def grammar(rng: np.random.Generator) -> str:
    """An English sentence put together from parts."""
    return " ".join(str(rng.choice(parts)) for parts in (_SUBJECTS, _VERBS, _OBJECTS, _ENDS)) + "."


def numbers(rng: np.random.Generator, _language: str) -> str:
    """Digits, which the synthesiser reads out in its language."""
    return ", ".join(str(int(10 ** rng.uniform(0.3, 5))) for _ in range(int(rng.integers(2, 5))))


def text(rng: np.random.Generator, language: str) -> str:
    """Something to say in ``language`` (a key of ``SENTENCES``)."""
    if language == "en" and rng.random() < 0.5:
        return grammar(rng)
    kinds: tuple[Callable[[np.random.Generator, str], str], ...] = (sentence, words, invented, numbers)
    return kinds[int(rng.choice(4, p=(0.3, 0.35, 0.25, 0.1)))](rng, language)

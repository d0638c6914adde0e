"""Words of feeling, with the emotions they mix and how strong they are. Our own list; what text readers learn from."""

from __future__ import annotations

from collections.abc import Mapping

# Mixture of emotions and strength (1 = the emotion itself) -> words and phrases that are so. Commas between.
_GROUPS: tuple[tuple[Mapping[str, float], float, str], ...] = (
    (
        {"anger": 1.0},
        1.0,
        """
        anger, angry, angrily, mad, cross, irate, hostile, aggressive, wrathful, wrath, hot tempered, fuming,
        ire, scowl, scowling, glare, glaring, frown, frowning, indignant, indignation, belligerent, heated,
        combative, snarl, snarling, temper, fierce, stern, menacing, threatening, growl
        """,
    ),
    (
        {"anger": 1.0},
        1.5,
        """
        furious, furiously, fury, enraged, rage, raging, livid, outraged, outrage, incensed, infuriated,
        seething, boiling, ballistic, apoplectic, hatred, hateful, hate, vengeful, murderous, rabid, violent
        """,
    ),
    (
        {"anger": 1.0},
        0.6,
        """
        annoyed, annoyance, annoying, irritated, irritation, irritable, irked, peeved, grumpy, grouchy,
        crabby, cranky, testy, snappy, displeased, displeasure, impatient, impatience, bothered, vexed,
        miffed, aggravated, exasperated, exasperation, fed up, sullen, surly, petulant, touchy, huffy, ticked
        off, disgruntled
        """,
    ),
    (
        {"anger": 0.7, "sadness": 0.3},
        0.9,
        """
        frustrated, frustration, resentful, resentment, offended, upset, aggrieved, wronged, jealous,
        jealousy, envious, envy, betrayed, insulted, embittered, provoked
        """,
    ),
    (
        {"contempt": 1.0},
        1.0,
        """
        contempt, contemptuous, scorn, scornful, disdain, disdainful, sneer, sneering, smirk, smirking,
        haughty, arrogant, arrogance, condescending, derisive, mocking, mockery, snide, superior,
        supercilious, snobbish, dismissive, patronizing, cynical, cynicism, jeering, cocky
        """,
    ),
    (
        {"contempt": 0.7, "happiness": 0.3},
        0.8,
        """
        smug, smugly, sarcastic, sarcasm, ironic, irony, sardonic, sly, wry, gloating, self satisfied,
        conceited, sassy, cheeky
        """,
    ),
    (
        {"sadness": 0.4, "contempt": 0.4, "anger": 0.2},
        0.9,
        """
        bitter, bitterly, bitterness, jaded, disillusioned, sour
        """,
    ),
    (
        {"disgust": 1.0},
        1.0,
        """
        disgust, disgusted, disgusting, revulsion, grossed out, gross, nauseated, nausea, queasy, sickened,
        yuck, yucky, ew, eww, repelled, distaste, distasteful, squeamish, nasty, icky, putrid
        """,
    ),
    (
        {"disgust": 1.0},
        1.5,
        """
        revolted, revolting, repulsed, repulsive, repulsion, abhorrence, appalled, loathing, loathe, abhor,
        detest, repugnance, repugnant, vile
        """,
    ),
    (
        {"disgust": 1.0},
        0.6,
        """
        aversion, averse, put off, dislike, unsavory, grimace, grimacing
        """,
    ),
    (
        {"fear": 1.0},
        1.0,
        """
        fear, fearful, afraid, scared, frightened, frightening, fright, scary, spooked, threatened, dread,
        dreading, alarmed, alarm, intimidated, cowering, trembling, shaken, creeped out, haunted, phobic,
        cowardly
        """,
    ),
    (
        {"fear": 1.0},
        1.5,
        """
        terrified, terrifying, terror, terrorized, horrified, horror, petrified, panicked, panic, panicking,
        panicky, scared stiff, hysterical, hysteria, frantic, traumatized
        """,
    ),
    (
        {"fear": 1.0},
        0.6,
        """
        nervous, nervously, nervousness, anxious, anxiety, anxiously, worried, worry, worrying, uneasy,
        unease, apprehensive, apprehension, tense, stressed, stress, on edge, jittery, jumpy, timid, insecure,
        wary, concerned, concern, restless, hesitant, unsettled, agitated, distressed, distress, paranoid,
        suspicious, flustered
        """,
    ),
    (
        {"happiness": 1.0},
        1.0,
        """
        happiness, happy, happily, joy, joyful, joyous, glad, gladness, cheerful, cheerfully, cheer, cheery,
        merry, smile, smiling, smiley, grin, grinning, delighted, delight, delightful, jolly, jovial, beaming,
        upbeat, sunny, pleased, playful, amused, amusement, fun, funny, enjoying, enjoyment, excited,
        excitement, exciting, enthusiastic, enthusiasm, festive, bubbly, buoyant, lively, giggle, giggling,
        chuckle, proud, pride, triumphant, victorious, inspired, optimistic, optimism, loving, love, in love,
        adoring, radiant
        """,
    ),
    (
        {"happiness": 1.0},
        1.5,
        """
        ecstatic, ecstasy, elated, elation, overjoyed, thrilled, euphoric, euphoria, jubilant, jubilation,
        exhilarated, exuberant, rapturous, laugh, laughing, laughter, hilarious, over the moon, on cloud nine,
        gleeful, glee, rejoicing, blissful, bliss, exultant, tickled pink, roaring with laughter
        """,
    ),
    (
        {"happiness": 1.0},
        0.6,
        """
        content, contented, contentment, satisfied, satisfaction, friendly, kind, warm, warmly, hopeful, hope,
        grateful, gratitude, thankful, pleasant, gentle, tender, affectionate, affection, charming, polite,
        welcoming, sweet, good natured, encouraging, sympathetic, flattered, confident, fond, good mood,
        comforted, relieved, relief, carefree, light hearted, flirty, flirtatious, compassionate
        """,
    ),
    (
        {"sadness": 1.0},
        1.0,
        """
        sadness, sad, sadly, saddened, unhappy, unhappiness, unhappily, sorrow, sorrowful, gloomy, gloom,
        blue, down, dejected, mournful, mourning, miserable, misery, tearful, teary, tears, crying, cry, weep,
        weeping, weepy, hurt, lonely, loneliness, melancholy, melancholic, grieving, disheartened, forlorn,
        glum, morose, downcast, down in the dumps, low spirits, woeful, pained, suffering, joyless, cheerless,
        homesick, unloved
        """,
    ),
    (
        {"sadness": 1.0},
        1.5,
        """
        heartbroken, heart broken, devastated, despair, despairing, desperate, desperation, depressed,
        depression, depressing, grief, grief stricken, anguish, anguished, agony, inconsolable, crushed, sob,
        sobbing, wailing, hopeless, hopelessness, suicidal, bereft, distraught, tormented, shattered
        """,
    ),
    (
        {"sadness": 1.0},
        0.6,
        """
        disappointed, disappointment, let down, discouraged, wistful, nostalgic, nostalgia, pensive, somber,
        sombre, moody, pout, pouting, sulky, sulking, sorry, apologetic, regretful, regret, weary, subdued,
        troubled, brooding, pity, pitying, longing, dismayed, dismay, bummed, resigned, drained
        """,
    ),
    (
        {"sadness": 0.6, "fear": 0.4},
        0.8,
        """
        ashamed, shame, guilty, guilt, embarrassed, embarrassment, remorseful, remorse, humiliated,
        humiliation, helpless, vulnerable, overwhelmed, mortified, powerless, pleading
        """,
    ),
    (
        {"surprise": 1.0},
        1.0,
        """
        surprise, surprised, surprising, surprisingly, amazed, amazement, astonished, astonishment, startled,
        stunned, gasp, gasping, speechless, disbelief, wow, incredulous, taken aback, wide eyed, unexpected,
        dumbfounded, jaw dropping, wonder, wonderment, awe, awed
        """,
    ),
    (
        {"surprise": 1.0},
        1.5,
        """
        astounded, flabbergasted, thunderstruck, shocked, shock, shocking, gobsmacked, mind blown, blown away,
        stupefied, bowled over
        """,
    ),
    (
        {"surprise": 1.0},
        0.6,
        """
        curious, curiosity, intrigued, interested, puzzled, perplexed, baffled, confused, confusion,
        bewildered, fascinated, fascination, questioning, quizzical, inquisitive, impressed, attentive
        """,
    ),
    (
        {"surprise": 0.5, "happiness": 0.5},
        1.1,
        """
        amazing, awesome, marvelling, enchanted, starry eyed, wondrous, dazzled, awestruck, mesmerized,
        pleasantly surprised
        """,
    ),
    (
        {"surprise": 0.5, "fear": 0.5},
        1.2,
        """
        aghast, jolted, horror struck, dismayed shock, shell shocked
        """,
    ),
    (
        {"sadness": 0.5, "happiness": 0.5},
        0.7,
        """
        bittersweet, touched, moved, sentimental, poignant
        """,
    ),
    (
        {"disgust": 0.5, "anger": 0.5},
        1.0,
        """
        indignant disgust, disapproving, disapproval, reproachful, reproach, bad mood, malicious, cruel,
        spiteful, spite, malice
        """,
    ),
    (
        {"neutral": 1.0},
        1.0,
        """
        neutral, calm, calmly, calmness, relaxed, relaxing, serious, seriously, serene, serenity, peaceful,
        composed, emotionless, unemotional, expressionless, blank, indifferent, indifference, bored, boredom,
        boring, sleepy, tired, sober, deadpan, stoic, poker face, unmoved, detached, apathetic, apathy,
        placid, tranquil, impassive, businesslike, matter of fact, cool, aloof, solemn, focused, thoughtful,
        patient, at ease, professional
        """,
    ),
)

# Words that say nothing of a feeling: readers learn to pass them over.
_ORDINARY = """
    hunger hungry danger thirsty thirst a about above across after again air all along also always am an animal
    answer any apple are area arm around art as ask at away baby back bag ball bank base be bear because bed
    been before begin behind being best better between big bird bit black boat body bone book both bottle box
    boy branch bread bridge bring brother brown build building bus business but buy by call came camera can car
    carry case cat cause cell chair change chicken child city class clean clear clock close cloth cloud coat
    coffee cold color come common company compare computer consider contain cook copy corn corner correct could
    country course cover cup cut dance date day decide deep design desk develop did differ dinner direct do
    doctor does dog done door draw dress drive dry during each early earth east easy eat edge egg eight electric
    engine english enough even evening ever every example expression eye face fact fall family far farm fast
    father feel feeling feet few field figure fill final find finger finish fire first fish five floor flower
    fly follow food foot for form forest found four friend from front fruit full game garden gas gave general
    get girl give glass go gold got grass great green ground group grow guitar had hair half hand has hat have
    he head hear heat help her here high hill him his hold hole home horse hot hotel hour house how huge hundred
    i ice idea if in inch include instrument into iron is island it job join jump just keep key king kitchen
    knee know lady lake lamp land language large last late law lay lead learn leather leave left leg less let
    letter level life lift light like line list listen little long look looks lot low machine made mail main
    make man manner many map mark market material may me mean measure meat metal method middle might mile milk
    mind minute money month moon more morning most mother motion mountain mouth move much music must my name
    nation near need never new next night nine noise noon north nose not note number object ocean of off office
    often oil old on once one only open or orange order other our out over own page paint pair paper parent part
    party pass past path pay pencil people perhaps person phone phrase picture piece place plain plan plane
    plant plate play please plural point pose position possible potato power present press print probable
    problem process produce product proper provide pull push put queen question quick rain ran reach read ready
    real record red region remember repeat reply report rest rice ride right ring rise river road rock roll room
    root rope round row rule run said sail salt same sand sat saw say school science sea season seat second see
    seem seems self sell send sense sentence separate serve set seven shape share she ship shirt shoe shop short
    should shoulder show side sign silver simple since sing sister sit six size skin sky sleep small smell snow
    so soft soil some somebody someone something song soon sound south space speak special speech speed spell
    spoke spot spring square stand star start state station stay steam step stone stop store story straight
    stream street string strong student study subject such sugar suggest suit summer sun support sure surface
    swim system table tail take talk talking tall teach team tell ten test than that the their them then there
    these they thing think this those thousand three through time tiny to together told tone tool top total
    touch toward town track trade train travel tree triangle true try tube turn two type under unit until up us
    use usual valley value various verb very view village visit voice vowel wait walk wall want was wash watch
    water wave way we wear weather week weight well went were west what wheel when where which while white who
    whole whose why wide wife wild will wind window winter wire wish with without woman wood word work world
    would write year yellow yes yet you young your zero
"""
ORDINARY = tuple(_ORDINARY.split())


def entries() -> dict[str, tuple[dict[str, float], float]]:
    """Word or phrase, in lower case with single blanks, -> (shares of emotions that add up to 1, strength)."""
    return {
        " ".join(word.split()): (dict(mix), strength) for mix, strength, words in _GROUPS for word in words.split(",")
    }
